"""A connection to PostgreSQL that the reactor serves itself, for changes that only write.

In a thread a change has two threads to wake, and SQLAlchemy's ceremony: together half of what an event waited for its
commit. One that asks nothing before its end needs neither: its statements are collected, sent in one go, and answered
in one go; meanwhile the reactor is free.

libpq is used as its manual says (PostgreSQL, 34.4 and 34.5: asynchronous commands, pipeline mode), through psycopg's
thin ``pgconn``. psycopg's own ``Connection`` is made in a thread, and lent.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from select import POLLIN, poll
from typing import Any, Final, TypeVar, cast

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult
from sqlalchemy.exc import DBAPIError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from msgd.database.pipeline import BEGIN, COMMIT, KEY, ByteArrays, Rows, Then
from msgd.database.store import Transaction

T = TypeVar("T")

PREPARED: Final = 200
"""Statements that a connection keeps at the server, before it is given up for another one: ours are fewer."""

_PLACEHOLDER: Final = re.compile(rb"%[sb%]")


class Asked(Exception):
    """This change asks something, or it is not free: it is to be made in a thread."""


class _Script:
    """Stands for the transaction of a change that only writes: as much of one as
    :func:`~msgd.database.direct.later` needs."""

    def __init__(self, dialect: Any) -> None:
        self.dialect = dialect
        self.statements: list[tuple[bytes, Sequence[Any], Then | None]] = [(BEGIN, (), None)]

    def get_execution_options(self) -> dict[str, Any]:
        return {KEY: self}

    def add(self, statement: bytes, values: Sequence[Any] | None, then: Then | None = None) -> None:
        self.statements.append((statement, values or (), then))

    def flush(self) -> None:
        raise Asked

    def __getattr__(self, name: str) -> Any:
        raise Asked  # whatever else can be done with a transaction


@implementer(IReadWriteDescriptor)
class Shortcut:
    """One connection, with one change at a time."""

    def __init__(self, reactor: Any, driver: psycopg.Connection[Any], dialect: Any) -> None:
        """``driver``: open, and nobody else's from now on; ``dialect``: SQLAlchemy's."""
        self._reactor = reactor
        self._driver = driver
        self._pgconn = driver.pgconn
        self._dialect = dialect
        self._prepared: dict[bytes, bytes] = {}
        self._unanswered: deque[tuple[bytes, Then | None]] = deque()
        self._answering = False  # the first of them
        self._found: list[tuple[Then, Rows]] = []
        self._error: BaseException | None = None
        self._done: Deferred[None] | None = None
        self.is_open = True
        # libpq closes its own when the server has gone, and the reactor would find another's file there, or none.
        self._fd = os.dup(self._pgconn.socket)
        try:
            self._pgconn.nonblocking = 1
            self._pgconn.enter_pipeline_mode()
            reactor.addReader(self)
        except BaseException:  # whatever it is: nothing stays open
            os.close(self._fd)
            raise

    @property
    def is_free(self) -> bool:
        return self.is_open and self._done is None

    async def perform(self, change: Callable[[Transaction], T]) -> T:
        """What ``change`` returns, after the commit. Raises Asked, with nothing done, and SQLAlchemy's errors: after
        one of a statement nothing is done, and it is closed; if the connection was lost, that is open."""
        self._hear()
        if len(self._prepared) > PREPARED:
            self.close()
        if not self.is_free:
            raise Asked
        script = _Script(self._dialect)
        value = change(cast(Transaction, script))
        script.add(COMMIT, ())
        ready = [
            (statement, self._parameters(statement, values), then) for statement, values, then in script.statements
        ]
        done: Deferred[None] = Deferred()
        self._done = done
        try:
            for statement, parameters, then in ready:
                self._send(statement, parameters, then)
            self._pgconn.pipeline_sync()
            self.doWrite()
        except psycopg.Error as error:
            self._break(error)
        except BaseException:  # of no memory, say: half of a transaction must not keep its locks
            self._done = None
            self.close()
            raise
        await done
        return value

    def _hear(self) -> None:
        """Notice a server that has gone: what is sent to one as a whole could not be told from what was cut."""
        poller = poll()
        poller.register(self._fd, POLLIN)
        while self.is_free and poller.poll(0):
            self.doRead()

    def close(self) -> None:
        """End the connection. Closing twice is harmless."""
        if self.is_open:
            self._break(psycopg.OperationalError("the database is being closed"))

    def _parameters(self, statement: bytes, values: Sequence[Any]) -> Sequence[bytes | None]:
        """Values as libpq takes them. Raises SQLAlchemy's DataError, as the server would, for what is no text."""
        try:
            return [_parameter(value) for value in values]
        except ValueError as error:
            raise self._told(psycopg.DataError(f"a text that PostgreSQL does not take: {error}"), statement) from error

    def _send(self, statement: bytes, parameters: Sequence[bytes | None], then: Then | None) -> None:
        text, binary = _in_libpq_form(statement)
        name = self._prepared.get(text)
        if name is None:
            name = self._prepared[text] = b"msgd_%d" % len(self._prepared)
            self._pgconn.send_prepare(name, text)
            self._unanswered.append((statement, None))
        formats = [Format.BINARY if one else Format.TEXT for one in binary]
        self._pgconn.send_query_prepared(name, parameters, formats)
        self._unanswered.append((statement, then))

    # -- answers ------------------------------------------------------------------------------------------------------

    def _take(self, result: PGresult) -> None:
        if result.status == ExecStatus.PIPELINE_SYNC:
            self._end()
            return
        self._answering = True
        if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            then = self._unanswered[0][1]
            if then is not None:
                self._found.append((then, self._rows(result)))
        elif self._error is None:  # the others are not performed, for this one
            statement = self._unanswered[0][0] if self._unanswered else COMMIT  # and behind it: a server that stops
            self._error = self._told(error_from_result(result, encoding="utf-8"), statement)

    def _rows(self, result: PGresult) -> Rows:
        transformer = Transformer(self._driver)
        transformer.set_pgresult(result)
        rows: Rows = transformer.load_rows(0, result.ntuples, tuple)
        return rows

    def _end(self) -> None:
        """All has been answered, and committed unless there was an error: the connection is given up with that."""
        done, self._done = self._done, None
        found, self._found = self._found, []
        error, self._error = self._error, None
        assert done is not None
        if error is not None:
            self.close()
            done.errback(error)
            return
        try:
            for then, rows in found:
                then(rows)
        except Exception:  # whatever it is, it is for whoever waits
            done.errback()
        else:
            done.callback(None)

    def _told(self, error: psycopg.Error, statement: bytes, *, lost: bool = False) -> BaseException:
        return DBAPIError.instance(
            statement.decode(), None, error, psycopg.Error, connection_invalidated=lost, dialect=self._dialect
        )

    def _break(self, error: psycopg.Error) -> None:
        """The connection is gone, or no use any more; of a change under way it is open whether it was made."""
        if not self.is_open:
            return
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self.is_open = False
        os.close(self._fd)
        self._driver.close()
        done, self._done = self._done, None
        if done is not None:
            done.errback(self._error or self._told(error, b"", lost=True))

    # -- for the reactor ----------------------------------------------------------------------------------------------

    def doRead(self) -> None:
        """Something has come, or the connection has gone."""
        try:
            self._pgconn.consume_input()
            while self.is_open and not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is not None:
                    self._take(result)
                elif self._answering:  # the answer of one statement ends
                    self._answering = False
                    if self._unanswered:
                        self._unanswered.popleft()
                else:
                    break  # nothing more
            if self.is_open and self._pgconn.status == ConnStatus.BAD:  # libpq has lost its thread, and says no more
                self._break(psycopg.OperationalError(self._pgconn.get_error_message()))
        except psycopg.Error as error:
            self._break(error)

    def doWrite(self) -> None:
        """Send what libpq holds; come again if the socket does not take it all."""
        try:
            if self._pgconn.flush():
                self._reactor.addWriter(self)
            else:
                self._reactor.removeWriter(self)
        except psycopg.Error as error:
            self._break(error)

    def fileno(self) -> int:
        return self._fd if self.is_open else -1

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has had an error with the socket, or stops."""
        self._break(psycopg.OperationalError(reason.getErrorMessage()))

    def logPrefix(self) -> str:
        return "shortcut"


@lru_cache(maxsize=256)
def _in_libpq_form(statement: bytes) -> tuple[bytes, Sequence[bool]]:
    """A statement with ``$1`` for ``%s`` and ``%b``, and which of them are in binary form."""
    binary: list[bool] = []

    def numbered(found: re.Match[bytes]) -> bytes:
        if found[0] == b"%%":
            return b"%"
        binary.append(found[0] == b"%b")
        return b"$%d" % len(binary)

    return _PLACEHOLDER.sub(numbered, statement), binary


def _parameter(value: Any) -> bytes | None:
    if isinstance(value, ByteArrays):
        return value.data
    if value is None or isinstance(value, bytes):
        return value
    text = str(value).encode()
    if b"\0" in text:  # where libpq would take it to end
        raise ValueError("it has a NUL")
    return text
