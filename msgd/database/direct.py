"""Whole batches of rows handed straight to the driver, below SQLAlchemy's expressions: what every message passes.

500 rows of 250 bytes with two indexes, on one core: SQLite's executemany over tuples 4 ms (through Core's ``insert``
9 ms); PostgreSQL's binary COPY 7 ms (``unnest`` 13, executemany 16). The texts are made once a table and set of
columns, so both drivers prepare them once a connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, Table, Text, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from msgd.database.store import Transaction


def insert_rows(transaction: Transaction, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, each with a value (or None) for each column, in the order in which the table has them."""
    if transaction.dialect.name == "postgresql":
        _copy(transaction, table, rows)
    else:
        transaction.exec_driver_sql(_insert(table), [tuple(row) for row in rows])


def update_rows(transaction: Transaction, table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Set the columns ``names`` of the rows with these keys, where they are there; a row: its key, then the values.

    ``table`` has a primary key of one column.
    """
    if transaction.dialect.name == "postgresql":
        statement = _update_from_arrays(table, tuple(names))
        transaction.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
    else:
        transaction.exec_driver_sql(_update_one(table, tuple(names)), [tuple(row) for row in rows])


@lru_cache
def _insert(table: Table) -> str:
    return str(insert(table).compile(dialect=sqlite.dialect()))


@lru_cache
def _update_one(table: Table, names: tuple[str, ...]) -> str:
    (key,) = table.primary_key.columns
    setting = ", ".join(f'"{name}" = ?{number}' for number, name in enumerate(names, 2))
    return f'UPDATE {table.name} SET {setting} WHERE "{key.name}" = ?1'  # noqa: S608 - our words


@lru_cache
def _update_from_arrays(table: Table, names: tuple[str, ...]) -> str:
    (key,) = table.primary_key.columns
    kinds = [table.columns[name].type for name in (key.name, *names)]
    arrays = ", ".join(_array(kind) for kind in kinds)
    setting = ", ".join(f'"{name}" = given."{name}"' for name in names)
    given = ", ".join(f'"{name}"' for name in (key.name, *names))
    return (
        f"UPDATE {table.name} SET {setting} FROM unnest({arrays}) AS given ({given}) "  # noqa: S608 - our words
        f'WHERE {table.name}."{key.name}" = given."{key.name}"'
    )


def _array(kind: TypeEngine[Any]) -> str:
    # Bytes travel as they are; the text form would double them.
    return f"{'%b' if isinstance(kind, LargeBinary) else '%s'}::{_kind(kind)}[]"


def _copy(transaction: Transaction, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """COPY, which SQLAlchemy does not know: the driver's errors become SQLAlchemy's here, as it would make them."""
    import psycopg

    statement = _copy_text(table)
    driver = transaction.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with closing(driver.cursor()) as cursor, cursor.copy(statement.encode()) as copy:
            copy.set_types([_kind(column.type) for column in table.columns])
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        lost = driver.broken
        if lost:
            transaction.invalidate(error)
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, connection_invalidated=lost, dialect=transaction.dialect
        ) from error


@lru_cache
def _copy_text(table: Table) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)"


def _kind(type_: TypeEngine[Any]) -> str:
    """PostgreSQL's name of a column's type; the binary form must be exact."""
    if isinstance(type_, Text):
        return "text"
    if isinstance(type_, LargeBinary):
        return "bytea"
    if isinstance(type_, Boolean):
        return "bool"
    assert isinstance(type_, Integer), type_
    return "int8" if isinstance(type_, BigInteger) else "int4"
