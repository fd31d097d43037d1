"""The few statements that every batch consists of, in each database's fastest form, below SQLAlchemy's expressions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from msgd.database import Transaction
from msgd.database.direct import insert_rows, update_rows
from msgd.journal import tables
from msgd.journal.numbering import TopicState

EventRow = tuple[int, int, int, str, str, str, int, int | None, int | None, bytes]
"""pos, topic_id, seq, id, type, source, time_ms, run, token, data."""

_STATE: Final = ", ".join(TopicState.__struct_fields__)
_CHANGING: Final = ("last_seq", "last_pos", "token")


def find_topics(transaction: Transaction, names: Sequence[str]) -> dict[str, TopicState]:
    """Those of the topics that there are."""
    query = f"SELECT name, {_STATE} FROM journal_topics WHERE name "  # noqa: S608 - our words
    return {row[0]: TopicState(*row[1:]) for row in _among(transaction, query, "text", names)}


def known_keys(transaction: Transaction, keys: Collection[bytes]) -> set[bytes]:
    """Those of the keys that there are."""
    return {bytes(key) for (key,) in _among(transaction, "SELECT key FROM journal_keys WHERE key ", "bytea", keys)}


def insert_events(transaction: Transaction, rows: Sequence[EventRow]) -> None:
    insert_rows(transaction, tables.events, rows)


def insert_keys(transaction: Transaction, keys: Sequence[bytes]) -> None:
    # In order, which spares the tree most of its descents.
    insert_rows(transaction, tables.keys, [(key,) for key in sorted(keys)])


def insert_topics(transaction: Transaction, topics: Sequence[tuple[str, TopicState]]) -> None:
    insert_rows(transaction, tables.topics, [_topic_row(name, state) for name, state in topics])


def update_topics(transaction: Transaction, topics: Sequence[TopicState]) -> None:
    rows = [(state.id, state.last_seq, state.last_pos, state.token) for state in topics]
    update_rows(transaction, tables.topics, _CHANGING, rows)


def _among(transaction: Transaction, query: str, kind: str, values: Collection[Any]) -> Any:
    """The rows of ``query``, which ends before the condition that a column of this kind is among ``values``."""
    if transaction.dialect.name == "postgresql":
        placeholder = "%b" if kind == "bytea" else "%s"
        return transaction.exec_driver_sql(f"{query} = ANY({placeholder}::{kind}[])", (list(values),))
    return transaction.exec_driver_sql(f"{query} IN ({', '.join('?' * len(values))})", tuple(values))


def _topic_row(name: str, state: TopicState) -> tuple[Any, ...]:
    return (state.id, name, state.born_pos, state.last_seq, state.last_pos, state.token, 0, 0, 0)
