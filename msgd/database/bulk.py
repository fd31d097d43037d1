"""Statements over many rows that both databases understand.

A group's change has hundreds of rows to update and wants to know which of them matched::

    mine = rows_of(transaction, {"id": Text(), "token": BigInteger()}, [(claim.job, claim.token) for claim in claims])
    statement = (
        update(jobs)
        .where(jobs.c.id == mine.c.id, jobs.c.token == mine.c.token)
        .values(heartbeat_ms=now_ms)
        .returning(jobs.c.id)
    )
    alive = {row.id for row in transaction.execute(statement)}

The rows travel as one parameter a column (PostgreSQL) or one in all (SQLite), so the statement is compiled and prepared
once, however many rows there are: with 200 rows 1.2 ms against 12 ms for ``VALUES`` and 5 ms for a statement each, on
SQLite. Rejected: executemany, which returns no rows there.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ARRAY, FromClause, LargeBinary, Table, Text, column, func, literal, select, text, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from msgd.database.store import Transaction

FROM_BASE64: Final = "msgd_from_base64"
"""A function that our SQLite connections have: JSON, in which the rows travel there, cannot hold bytes."""


def rows_of(
    transaction: Transaction,
    columns: Mapping[str, TypeEngine[Any]],
    rows: Sequence[Sequence[Any]],
    *,
    name: str = "given",
) -> FromClause:
    """``rows`` as a table ``name`` to join with: each row has a value (or None) for each of ``columns``, in order."""
    if transaction.dialect.name == "postgresql":
        arrays = [literal([row[number] for row in rows], ARRAY(type_)) for number, type_ in enumerate(columns.values())]
        named = [column(key, type_) for key, type_ in columns.items()]
        return func.unnest(*arrays).table_valued(*named, name=name).render_derived()
    bytes_at = [number for number, type_ in enumerate(columns.values()) if isinstance(type_, LargeBinary)]
    if bytes_at:
        rows = [_without_bytes(row, bytes_at) for row in rows]
    given = func.json_each(literal(msgspec.json.encode(rows).decode(), Text)).table_valued("value")
    fields = []
    for number, (key, type_) in enumerate(columns.items()):
        field = func.json_extract(given.c.value, text(f"'$[{number}]'"))
        if number in bytes_at:
            field = getattr(func, FROM_BASE64)(field)
        fields.append(type_coerce(field, type_).label(key))
    return select(*fields).cte(name)


def _without_bytes(row: Sequence[Any], bytes_at: Sequence[int]) -> list[Any]:
    plain = list(row)
    for number in bytes_at:
        if plain[number] is not None:
            plain[number] = b64encode(plain[number]).decode()
    return plain


def insert(transaction: Transaction, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT with ``on_conflict_do_nothing``, ``on_conflict_do_update`` and ``excluded``, which both databases have
    in one form and SQLAlchemy's own ``insert`` lacks."""
    return postgresql.insert(table) if transaction.dialect.name == "postgresql" else sqlite.insert(table)


def from_base64(encoded: str | None) -> bytes | None:
    """What :data:`FROM_BASE64` does."""
    return None if encoded is None else b64decode(encoded)
