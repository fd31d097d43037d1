"""The few statements that every batch consists of, in each database's fastest form, below SQLAlchemy's expressions.

500 events of 250 bytes, both indexes included, on one core: SQLite's executemany over tuples 4 ms (through Core's
``insert`` 9 ms); PostgreSQL's binary COPY 7 ms (``unnest`` 13, executemany 16).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from typing import Any, Final, Protocol

from sqlalchemy import LargeBinary, Table, Text, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from msgd.database import Transaction
from msgd.journal import tables
from msgd.journal.numbering import TopicState

EventRow = tuple[int, int, int, str, str, str, int, int | None, int | None, bytes]
"""pos, topic_id, seq, id, type, source, time_ms, run, token, data."""


_STATE: Final = ", ".join(TopicState.__struct_fields__)


class Statements(Protocol):
    """What a batch does to the tables."""

    def topics(self, transaction: Transaction, names: Sequence[str]) -> dict[str, TopicState]:
        """Those of the topics that there are."""

    def known(self, transaction: Transaction, keys: Collection[bytes]) -> set[bytes]:
        """Those of the keys that there are."""

    def insert_events(self, transaction: Transaction, rows: Sequence[EventRow]) -> None: ...

    def insert_keys(self, transaction: Transaction, keys: Sequence[bytes]) -> None: ...

    def insert_topics(self, transaction: Transaction, topics: Sequence[tuple[str, TopicState]]) -> None: ...

    def update_topics(self, transaction: Transaction, topics: Sequence[TopicState]) -> None: ...


def statements(transaction: Transaction) -> Statements:
    """The statements for the database that ``transaction`` is on."""
    return _POSTGRESQL if transaction.dialect.name == "postgresql" else _SQLITE


class _SQLite:
    def topics(self, transaction: Transaction, names: Sequence[str]) -> dict[str, TopicState]:
        rows = transaction.exec_driver_sql(
            f"SELECT name, {_STATE} FROM journal_topics WHERE name IN ({_marks(len(names))})",  # noqa: S608 - our words
            tuple(names),
        )
        return {row[0]: TopicState(*row[1:]) for row in rows}

    def known(self, transaction: Transaction, keys: Collection[bytes]) -> set[bytes]:
        rows = transaction.exec_driver_sql(
            f"SELECT key FROM journal_keys WHERE key IN ({_marks(len(keys))})",  # noqa: S608 - our words
            tuple(keys),
        )
        return {key for (key,) in rows}

    def insert_events(self, transaction: Transaction, rows: Sequence[EventRow]) -> None:
        transaction.exec_driver_sql(_INSERT_EVENTS, list(rows))

    def insert_keys(self, transaction: Transaction, keys: Sequence[bytes]) -> None:
        # In order, which spares the tree most of its descents.
        transaction.exec_driver_sql(_INSERT_KEYS, [(key,) for key in sorted(keys)])

    def insert_topics(self, transaction: Transaction, topics: Sequence[tuple[str, TopicState]]) -> None:
        transaction.exec_driver_sql(_INSERT_TOPICS, [_topic_row(name, state) for name, state in topics])

    def update_topics(self, transaction: Transaction, topics: Sequence[TopicState]) -> None:
        transaction.exec_driver_sql(
            "UPDATE journal_topics SET last_seq = ?, last_pos = ?, token = ? WHERE id = ?",
            [(state.last_seq, state.last_pos, state.token, state.id) for state in topics],
        )


class _PostgreSQL:
    def topics(self, transaction: Transaction, names: Sequence[str]) -> dict[str, TopicState]:
        rows = transaction.exec_driver_sql(
            f"SELECT name, {_STATE} FROM journal_topics WHERE name = ANY(%s::text[])",  # noqa: S608 - our words
            (list(names),),
        )
        return {row[0]: TopicState(*row[1:]) for row in rows}

    def known(self, transaction: Transaction, keys: Collection[bytes]) -> set[bytes]:
        rows = transaction.exec_driver_sql(
            "SELECT key FROM journal_keys WHERE key = ANY(%b::bytea[])",
            (list(keys),),
        )
        return {bytes(key) for (key,) in rows}

    def insert_events(self, transaction: Transaction, rows: Sequence[EventRow]) -> None:
        _copy(transaction, tables.events, rows)

    def insert_keys(self, transaction: Transaction, keys: Sequence[bytes]) -> None:
        _copy(transaction, tables.keys, [(key,) for key in sorted(keys)])

    def insert_topics(self, transaction: Transaction, topics: Sequence[tuple[str, TopicState]]) -> None:
        _copy(transaction, tables.topics, [_topic_row(name, state) for name, state in topics])

    def update_topics(self, transaction: Transaction, topics: Sequence[TopicState]) -> None:
        columns = zip(*[(state.id, state.last_seq, state.last_pos, state.token) for state in topics], strict=True)
        transaction.exec_driver_sql(
            "UPDATE journal_topics SET last_seq = new.last_seq, last_pos = new.last_pos, token = new.token "
            "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) "
            "AS new (id, last_seq, last_pos, token) WHERE journal_topics.id = new.id",
            tuple(list(column) for column in columns),
        )


_SQLITE: Final = _SQLite()
_POSTGRESQL: Final = _PostgreSQL()


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _topic_row(name: str, state: TopicState) -> tuple[Any, ...]:
    return (state.id, name, state.born_pos, state.last_seq, state.last_pos, state.token, 0, 0, 0)


def _copy(transaction: Transaction, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """COPY, which SQLAlchemy does not know: the driver's errors become SQLAlchemy's here, as it would make them."""
    import psycopg

    statement = f"COPY {table.name} ({', '.join(table.columns.keys())}) FROM STDIN (FORMAT BINARY)"
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


def _kind(type_: TypeEngine[Any]) -> str:
    """PostgreSQL's name of a column's type; the binary form must be exact."""
    if isinstance(type_, Text):
        return "text"
    return "bytea" if isinstance(type_, LargeBinary) else "int8"


def _insert(table: Table) -> str:
    """The INSERT over all columns, in the order in which the table has them."""
    return str(insert(table).compile(dialect=sqlite.dialect()))


_INSERT_EVENTS: Final = _insert(tables.events)
_INSERT_KEYS: Final = _insert(tables.keys)
_INSERT_TOPICS: Final = _insert(tables.topics)
