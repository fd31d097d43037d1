"""A transaction's way to PostgreSQL in few round trips: what need not be answered yet leaves with what must.

A round trip to a busy server takes longer than most statements, and a thread that comes back from one waits for the
interpreter once more. ``BEGIN`` leaves with the first question, and whatever is only written with ``COMMIT``: a group's
claims are two round trips (lock; write), and were eight.

The statements go by libpq's pipeline mode (PostgreSQL's manual, 34.5), on a connection that commits by itself, so that
``BEGIN`` and ``COMMIT`` are statements as any. After one that fails the server performs nothing more of those that were
sent with it, ``COMMIT`` neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from select import POLLIN, poll
from struct import Struct
from typing import Any, Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import tuple_row
from sqlalchemy.exc import DBAPIError

from msgd.database.store import Transaction

BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
BEGIN_READING: Final = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
COMMIT: Final = b"COMMIT"

Rows = list[tuple[Any, ...]]
Then = Callable[[Rows], None]

KEY: Final = "msgd_pipeline"
"""Under which a transaction's options hold it."""

_Cursor = psycopg.Cursor[tuple[Any, ...]]


class Pipeline:
    """The statements of one transaction that are still to be sent, the first of them ``BEGIN``."""

    def __init__(self, transaction: Transaction, begin: bytes) -> None:
        self._transaction = transaction
        self._driver = driver_of(transaction)
        self._begun = False
        self._waiting: list[tuple[bytes, Sequence[Any] | None, Then | None]] = [(begin, None, None)]

    def add(self, statement: bytes, values: Sequence[Any] | None, then: Then | None = None) -> None:
        """Send it with the next :meth:`flush`; ``then`` is told its rows."""
        self._waiting.append((statement, values, then))

    def flush(self) -> None:
        """Send what waits, and await the answers. Raises SQLAlchemy's errors."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._begun = True
        asked: list[tuple[_Cursor, Then]] = []
        with errors(self._transaction, waiting[-1][0]):
            with self._driver.pipeline():
                for statement, values, then in waiting:
                    cursor = self._driver.cursor(row_factory=tuple_row)
                    cursor.execute(statement, values)
                    if then is not None:
                        asked.append((cursor, then))
            answers = [(cursor.fetchall(), then) for cursor, then in asked]
        for rows, then in answers:
            then(rows)

    def commit(self) -> None:
        """Send what waits, and ``COMMIT``; nothing if nothing was ever asked."""
        if self._begun or len(self._waiting) > 1:
            self.add(COMMIT, None)
            self.flush()


def begin(transaction: Transaction, how: bytes) -> Pipeline:
    """Begin a transaction on a connection that commits by itself. What is not committed in the end is rolled back as
    SQLAlchemy takes back the connection."""
    pipeline = Pipeline(transaction, how)
    transaction.execution_options(**{KEY: pipeline})
    return pipeline


def pipeline_of(transaction: Transaction) -> Pipeline:
    """The pipeline with which a transaction was begun."""
    pipeline: Pipeline = transaction.get_execution_options()[KEY]
    return pipeline


def flush_first(transaction: Transaction, *_: object) -> None:
    """For SQLAlchemy's ``before_cursor_execute``: its own statements come after those that wait."""
    pipeline: Pipeline | None = transaction.get_execution_options().get(KEY)
    if pipeline is not None:  # else it is SQLAlchemy that looks at a new server
        pipeline.flush()


def is_alive(transaction: Transaction) -> bool:
    """Whether the server has not ended an idle connection. Asked before each transaction: one that is sent as a whole
    to a server that is gone could not be told from one that was cut in its commit, and so would not be tried again."""
    driver = driver_of(transaction)
    poller = poll()
    poller.register(driver.fileno(), POLLIN)
    if not poller.poll(0):
        return True
    try:
        driver.pgconn.consume_input()  # its last words; or news such as a changed setting, and nothing behind them
    except psycopg.OperationalError:
        return False
    return not poller.poll(0)


def driver_of(transaction: Transaction) -> psycopg.Connection[Any]:
    """psycopg's connection under SQLAlchemy's."""
    driver = transaction.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


@contextmanager
def errors(transaction: Transaction, statement: bytes) -> Iterator[None]:
    """The driver's errors become SQLAlchemy's here, as it would make them."""
    try:
        yield
    except psycopg.Error as error:
        lost = driver_of(transaction).broken
        if lost:
            transaction.invalidate(error)
        raise DBAPIError.instance(
            statement.decode(),
            None,
            error,
            psycopg.Error,
            connection_invalidated=lost,
            dialect=transaction.dialect,
        ) from error


# -- arrays of bytes ---------------------------------------------------------------------------------------------------

_BYTEA: Final = 17  # pg_type's number, and that of its array
_BYTEA_ARRAY: Final = 1001
_pack_array: Final = Struct(">iiIii").pack  # dimensions, whether some are NULL, of what; length, and the first index


class ByteArrays:
    """Bytes as an array parameter in binary form, in one piece: through psycopg's lists each takes a dumper's way."""

    __slots__ = ("data",)

    def __init__(self, values: Sequence[bytes | None]) -> None:
        """``values``: one at least."""
        parts = [_pack_array(1, None in values, _BYTEA, len(values), 1)]
        for value in values:
            if value is None:
                parts.append(b"\xff\xff\xff\xff")
            else:
                parts += (len(value).to_bytes(4), value)
        self.data = b"".join(parts)


class ByteArraysDumper(Dumper):
    """Hands them to psycopg."""

    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: ByteArrays) -> bytes:
        return obj.data
