"""The embedded broker's file: its tables, the statements of one batch, and the lock against a second process.

A message's ``id`` is its queue's number times 2^44 plus a number that counts up over all queues: the rows of a queue
lie together, oldest first, and no index beside the table itself has to be written.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Final

from msgspec import Struct
from sqlalchemy import text

from msgd.broker.embedded.queues import Entry
from msgd.database.direct import perform_for_each, performed
from msgd.database.store import Transaction
from msgd.errors import ConfigError
from msgd.messages.envelope import from_bytes

FORMAT: Final = 1
"""Of the file; kept in SQLite's ``user_version``."""

QUEUE_SHIFT: Final = 44

PAGE_MESSAGES: Final = 500
PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page of a long queue ends with the message that reaches either: memory stays bounded with 1 MiB messages too."""

_TABLES: Final = (
    # handed: up to which id messages may have been in somebody's hands since the file was opened (0: none).
    "CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, handed INTEGER NOT NULL DEFAULT 0)",
    # deliveries: how often the message has come back.
    """CREATE TABLE messages (id INTEGER PRIMARY KEY, exchange TEXT NOT NULL, key TEXT NOT NULL,
    message BLOB NOT NULL, deliveries INTEGER NOT NULL DEFAULT 0)""",
)


class Insert(Struct, frozen=True):
    """A message to store."""

    id: int
    exchange: str
    key: str
    message: bytes
    deliveries: int = 0


class Page(Struct, frozen=True):
    """A request for a queue's next messages: those with ids above ``after``."""

    queue: int
    after: int


class Kept(Struct, frozen=True):
    """What the file holds of one queue."""

    number: int
    name: str
    messages: int


class InUse(ConfigError):
    """Another process has the broker's file."""


class Lock:
    """Keeps a second process off a broker's file; gone with the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Raises InUse if another process has the lock."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise InUse(
                "the embedded broker lives in one process, and another one has its file open: stop that one, or set "
                "an amqp:// URL to run several",
                where=str(self._path),
            ) from None
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def prepare(transaction: Transaction) -> None:
    """Make the tables. Raises ConfigError for a file of another format."""
    found = transaction.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found == 0:
        for statement in _TABLES:
            transaction.exec_driver_sql(statement)
        transaction.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")
    elif found != FORMAT:
        raise ConfigError(f"the embedded broker's file has format {found}; this msgd reads format {FORMAT}")


def open_queues(transaction: Transaction, needed: Iterable[str]) -> tuple[list[Kept], int]:
    """The queues, those that are ``needed`` among them, and the highest number of a message. After a crash, what may
    have been in somebody's hands is counted as delivered once more."""
    highest = 0
    queues = []
    for number, name, handed in transaction.exec_driver_sql("SELECT id, name, handed FROM queues").all():
        first, last = number << QUEUE_SHIFT, ((number + 1) << QUEUE_SHIFT) - 1
        if handed:
            transaction.execute(
                text("UPDATE messages SET deliveries = deliveries + 1 WHERE id BETWEEN :first AND :handed"),
                {"first": first, "handed": handed},
            )
        count, newest = transaction.execute(
            text("SELECT count(*), max(id) FROM messages WHERE id BETWEEN :first AND :last"),
            {"first": first, "last": last},
        ).one()
        queues.append(Kept(number, name, count))
        highest = max(highest, (newest or first) - first)
    close_queues(transaction)
    known = {queue.name for queue in queues}
    missing = [name for name in dict.fromkeys(needed) if name not in known]
    if missing:
        numbered = list(enumerate(missing, 1 + max((queue.number for queue in queues), default=0)))
        add_queues(transaction, numbered)
        queues += [Kept(number, name, 0) for number, name in numbered]
    return queues, highest


def add_queues(transaction: Transaction, queues: Sequence[tuple[int, str]]) -> None:
    """Add queues by number and name."""
    transaction.exec_driver_sql("INSERT INTO queues (id, name) VALUES (?, ?)", list(queues))


def insert(transaction: Transaction, messages: Iterable[Insert]) -> None:
    perform_for_each(
        transaction,
        "INSERT INTO messages (id, exchange, key, message, deliveries) VALUES (?, ?, ?, ?, ?)",
        [(one.id, one.exchange, one.key, one.message, one.deliveries) for one in messages],
    )


def delete(transaction: Transaction, ids: Sequence[int]) -> None:
    performed(transaction, "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),))


def count_deliveries(transaction: Transaction, ids: Sequence[int]) -> None:
    """These messages came back: each one's deliveries count one more."""
    perform_for_each(
        transaction, "UPDATE messages SET deliveries = deliveries + 1 WHERE id = ?", [(one,) for one in ids]
    )


def mark_handed(transaction: Transaction, handed: Sequence[tuple[int, int]]) -> None:
    """Write down, by queue, up to which id messages are about to be handed out."""
    perform_for_each(transaction, "UPDATE queues SET handed = ?2 WHERE id = ?1", handed)


def load(transaction: Transaction, page: Page) -> list[Entry]:
    """The next messages of a queue, oldest first, marked as handed; none means that there are no more."""
    rows = transaction.execute(
        text(
            "SELECT id, exchange, key, message, deliveries FROM messages WHERE id > :after AND id < :end"
            " ORDER BY id LIMIT :limit"
        ),
        {
            "after": max(page.after, page.queue << QUEUE_SHIFT),
            "end": (page.queue + 1) << QUEUE_SHIFT,
            "limit": PAGE_MESSAGES,
        },
    )
    entries: list[Entry] = []
    size = 0
    for id_, exchange, key, message, deliveries in rows:
        entries.append(Entry(id_, exchange, key, from_bytes(message), deliveries))
        size += len(message)
        if size >= PAGE_BYTES:
            break
    rows.close()
    if entries:
        mark_handed(transaction, [(page.queue, entries[-1].id)])
    return entries


def close_queues(transaction: Transaction) -> None:
    """A clean end: nothing is in anybody's hands."""
    transaction.exec_driver_sql("UPDATE queues SET handed = 0")
