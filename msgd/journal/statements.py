"""The few statements that every batch consists of, in each database's fastest form, below SQLAlchemy's expressions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from msgspec import Struct

from msgd.database import Transaction
from msgd.database.arrays import array_of_texts
from msgd.database.direct import answers, array_of_bytes, insert_rows, later, update_rows
from msgd.journal import tables
from msgd.journal.numbering import TopicState

EventRow = tuple[int, int, int, str, str, str, int, int | None, int | None, bytes]
"""pos, topic_id, seq, id, type, source, time_ms, run, token, data."""


class Head(Struct, frozen=True):
    """The head row."""

    id: int
    epoch: str
    pos: int
    live_pos: int
    last_topic: int
    lease_holder: str
    lease_number: int
    lease_until_ms: int


MOVED: Final = "22012"
"""PostgreSQL's error for a division by zero: what :func:`move_head` comes to if the head is not as it was left."""

KNOWN: Final = "23505"
"""And for a key that is there: of an event that is known."""

_STATE: Final = ", ".join(TopicState.__struct_fields__)
_HEAD: Final = ", ".join(Head.__struct_fields__)
_MOVING: Final = ("pos", "live_pos", "last_topic")
_CHANGING: Final = ("last_seq", "last_pos", "token")


def known_keys(transaction: Transaction, keys: Collection[bytes]) -> set[bytes]:
    """Those of the keys that there are."""
    return {bytes(key) for (key,) in answers(transaction, _find_keys(transaction, keys))[0]} if keys else set()


def lock_head(
    transaction: Transaction, keys: Collection[bytes] = (), names: Collection[str] = ()
) -> tuple[Head, set[bytes], dict[str, TopicState]]:
    """The head row, locked until the transaction ends (SQLite has a writer at most one at a time anyway), and those of
    the keys and of the topics that there are then."""
    locking = " FOR UPDATE" if transaction.dialect.name == "postgresql" else ""
    queries: list[tuple[str, Sequence[Any]]] = [(f"SELECT {_HEAD} FROM journal_head{locking}", ())]  # noqa: S608
    if keys:
        queries.append(_find_keys(transaction, keys))
    if names:
        query = f"SELECT name, {_STATE} FROM journal_topics WHERE name "  # noqa: S608 - our words
        queries.append(_among(transaction, query, "text", names))
    found = answers(transaction, *queries)
    (head,) = found[0]
    topics = {name: TopicState(*state) for name, *state in (found[-1] if names else ())}
    return Head(*head), {bytes(key) for (key,) in (found[1] if keys else ())}, topics


def _find_keys(transaction: Transaction, keys: Collection[bytes]) -> tuple[str, Sequence[Any]]:
    return _among(transaction, "SELECT key FROM journal_keys WHERE key ", "bytea", keys)


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


def update_head(transaction: Transaction, id_: int, pos: int, live_pos: int, last_topic: int) -> None:
    update_rows(transaction, tables.head, _MOVING, [(id_, pos, live_pos, last_topic)])


def move_head(transaction: Transaction, left: Head, moved: Head) -> None:
    """Set ``pos``, and ``live_pos`` if that is behind, of a head that is as it was ``left``, under the same lease; if
    it is not, the transaction fails with :data:`MOVED`. Only for PostgreSQL. It locks the row, and is not answered."""
    values = (moved.pos, moved.live_pos, left.id, left.epoch, left.pos, left.last_topic)
    later(transaction, _MOVE, [str(value) for value in (*values, left.lease_number, left.lease_holder)])


# A statement that matches nothing is no error by itself; here the others of its transaction must not be performed then.
_MOVE: Final = (
    "WITH moved AS (UPDATE journal_head SET pos = %s::bigint, live_pos = greatest(live_pos, %s::bigint) "
    "WHERE id = %s::integer AND epoch = %s::text AND pos = %s::bigint AND last_topic = %s::bigint "
    "AND lease_number = %s::bigint AND lease_holder = %s::text RETURNING 1) SELECT 1 / count(*) FROM moved"
)


def _among(transaction: Transaction, query: str, kind: str, values: Collection[Any]) -> tuple[str, Sequence[Any]]:
    """``query``, which ends before the condition that a column of this kind is among ``values``, with it."""
    if transaction.dialect.name == "postgresql":
        if kind == "bytea":
            return f"{query} = ANY(%b::bytea[])", (array_of_bytes(list(values)),)
        return f"{query} = ANY(%s::{kind}[])", (array_of_texts(values),)
    return f"{query} IN ({', '.join('?' * len(values))})", tuple(values)


def _topic_row(name: str, state: TopicState) -> tuple[Any, ...]:
    return (state.id, name, state.born_pos, state.last_seq, state.last_pos, state.token, 0, 0, 0)
