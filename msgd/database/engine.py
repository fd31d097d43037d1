"""A database as coroutines see it: each call is one transaction, in a thread (but see :meth:`Database.tell`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy.exc import ArgumentError, DBAPIError
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from msgd.database.failures import CONFLICTS, sqlstate, translated
from msgd.database.group import Group, Q, R
from msgd.database.migrate import upgrade
from msgd.database.postgresql import PostgreSQLStore
from msgd.database.shortcut import Asked, Shortcut
from msgd.database.sqlite import SQLiteStore
from msgd.database.store import Outcome, Store, Transaction
from msgd.database.threads import Threads, Worker
from msgd.errors import ConfigError, DatabaseUnavailable

_log = Logger()

T = TypeVar("T")

GROUP_LIMIT: Final = 200
"""Requests in one batch of a group: a few milliseconds of statements, about what one commit costs."""

REOPEN_S: Final = 5.0
"""After a try in vain to have a connection that the reactor serves, before the next: there is another way meanwhile."""

_Job = tuple[Callable[[Transaction], Any], "Deferred[Any]"]


class Database:
    """SQLite or PostgreSQL, told by the URL: ``sqlite:///path/to/file`` or ``postgresql://user@host/name``.

    Queries and changes are plain functions over an open transaction. They run in a thread (but see :meth:`tell`), so
    they touch nothing of the reactor; a change may be run again (after a conflict, or with fewer companions), so it has
    no effects but those on the transaction. They raise what they like: it rolls back that change alone and reaches its
    caller.
    What passes (no server, a conflict, a lock) is raised as DatabaseUnavailable, a full disk as Overloaded.
    """

    def __init__(
        self,
        url: str,
        *,
        reactor: IReactorFromThreads,
        threads: int = 4,
        prepare: Callable[[Transaction], None] = upgrade,
        workers: Callable[[str, int], Worker] = Threads,
    ) -> None:
        """``threads``: how many read at a time (on PostgreSQL, also how many write); ``prepare``: makes the schema,
        in a transaction of its own; ``workers``: starts so many threads under a name. Raises ConfigError."""
        self._reactor = reactor
        self._threads = threads
        self._prepare = prepare
        self._workers = workers
        self._store = _store(url, threads)
        self.dialect = "sqlite" if isinstance(self._store, SQLiteStore) else "postgresql"
        self._open = False
        self._turn = DeferredLock()  # of start and stop: they may be called while the other is under way
        self._writer: Worker | None = None
        self._reader: Worker | None = None
        self._waiting: deque[_Job] = deque()
        self._writing = 0
        self._reading = 0
        self._idle: Deferred[None] | None = None
        self._telling = 0
        self._shortcut: Shortcut | None = None
        self._opening: Deferred[None] | None = None
        self._not_before_s = 0.0  # is another one opened

    async def start(self) -> None:
        """Connect and bring the schema up to date. Raises DatabaseUnavailable; may be called again then."""
        await self._turn.acquire()
        try:
            if not self._open:
                await self._start()
        finally:
            self._turn.release()

    async def stop(self) -> None:
        """Finish what was asked for, then close. Harmless if never started, or stopped before."""
        await self._turn.acquire()
        try:
            await self._stop()
        finally:
            self._turn.release()

    async def _start(self) -> None:
        self._writer = self._workers(f"{self.dialect}-writer", self._store.writers)
        self._reader = self._workers(f"{self.dialect}-reader", self._threads)
        try:
            await self._in_thread(self._writer, partial(self._store.open, self._prepare))
        except BaseException:  # also a cancelled start leaves no threads
            self._end_threads()
            raise
        self._open = True

    async def _stop(self) -> None:
        self._open = False
        if self._waiting or self._writing or self._reading or self._telling:
            self._idle = Deferred()
            await self._idle
        if self._opening is not None:
            await self._opening
            self._opening = None
        if self._shortcut is not None:
            self._shortcut.close()
            self._shortcut = None
        if self._writer is not None:
            await self._in_thread(self._writer, self._store.close)
        self._end_threads()

    def _end_threads(self) -> None:
        for worker in (self._writer, self._reader):
            if worker is not None:
                worker.quit()
        self._writer = self._reader = None

    async def read(self, query: Callable[[Transaction], T]) -> T:
        """What ``query`` returns, from one read-only snapshot, which shows every write that has returned."""
        if not self._open or self._reader is None:
            raise self._closed()
        self._reading += 1
        try:
            return await self._in_thread(self._reader, partial(self._store.read, query))
        finally:
            self._reading -= 1
            self._tell_idle()

    async def write(self, change: Callable[[Transaction], T]) -> T:
        """What ``change`` returns, after the commit. Cancelled before it begins, it is not performed.

        On SQLite, changes that arrive during a commit join the next transaction, each in its savepoint.
        """
        if not self._open:
            raise self._closed()
        return await self._make(change)

    async def _make(self, change: Callable[[Transaction], T]) -> T:
        result: Deferred[T] = Deferred()
        self._waiting.append((change, result))
        self._write_on()
        return await result

    async def tell(self, change: Callable[[Transaction], T]) -> T:
        """The same, sooner where ``change`` only writes (see :func:`~msgd.database.direct.later`): on PostgreSQL
        without a thread, one at a time. It is called here first, so it must be quick; where it asks after all, another
        is under way, or it meets a conflict, it is begun anew in a thread. Whoever cancels it does not know whether it
        is made, after :meth:`stop` neither."""
        if not self._open:
            raise self._closed()
        if not isinstance(self._store, PostgreSQLStore):
            return await self._make(change)
        self._telling += 1
        try:
            if self._shortcut is None or not self._shortcut.is_open:
                self._open_shortcut(self._store)
                return await self._make(change)
            try:
                return await self._shortcut.perform(change)
            except Asked:
                return await self._make(change)
            except DBAPIError as error:
                if sqlstate(error) in CONFLICTS:
                    return await self._make(change)
                raise translated(error, self._store.name) from error
        finally:
            self._telling -= 1
            self._tell_idle()

    def _open_shortcut(self, store: PostgreSQLStore) -> None:
        """For the next ones: a connection takes a while."""
        reactor: Any = self._reactor  # whose clock and sockets it takes, where there is PostgreSQL
        is_opening = self._opening is not None and not self._opening.called
        if not is_opening and reactor.seconds() >= self._not_before_s:
            self._opening = Deferred.fromCoroutine(self._opened_shortcut(store, reactor))

    async def _opened_shortcut(self, store: PostgreSQLStore, reactor: Any) -> None:
        assert self._writer is not None
        self._not_before_s = reactor.seconds() + REOPEN_S
        try:
            driver, dialect = await self._in_thread(self._writer, store.lend)
            try:
                self._shortcut = Shortcut(reactor, driver, dialect)
            except BaseException:  # whatever it is: the connection is nobody's
                driver.close()
                raise
            self._not_before_s = 0.0
        except psycopg.Error:
            pass  # the server is away: whoever writes is told
        except Exception:  # whatever it is, there is another way
            _log.failure("a connection that the reactor serves cannot be had")

    def group(
        self, change: Callable[[Transaction, Sequence[Q]], Sequence[R | Exception]], *, limit: int = GROUP_LIMIT
    ) -> Group[Q, R]:
        """A group commit over this database; see :class:`~msgd.database.group.Group`."""
        return Group(self, change, limit=limit)

    def _closed(self) -> DatabaseUnavailable:
        return DatabaseUnavailable("the database is not open: it was not started yet, or is being stopped")

    def _write_on(self) -> None:
        """Hand waiting changes to the writer threads that are free."""
        while self._waiting and self._writing < self._store.writers:
            batch: list[_Job] = []
            while self._waiting and len(batch) < self._store.joined:
                job = self._waiting.popleft()
                if not job[1].called:  # else its caller was cancelled
                    batch.append(job)
            if batch:
                assert self._writer is not None
                self._writing += 1
                self._writer.do(partial(self._write_batch, batch))
        self._tell_idle()

    def _write_batch(self, batch: list[_Job]) -> None:
        """In the writer's thread."""
        try:
            outcomes = self._store.write([change for change, _ in batch])
        except BaseException as error:  # of a thread: it goes to those who wait, who would wait for ever
            outcomes = [Outcome(error=error)] * len(batch)
        self._reactor.callFromThread(self._written, batch, outcomes)

    def _written(self, batch: list[_Job], outcomes: list[Outcome]) -> None:
        self._writing -= 1
        self._write_on()  # first, so that the disk is busy while the callers go on
        for (_, result), outcome in zip(batch, outcomes, strict=True):
            if outcome.error is not None:
                result.errback(outcome.error)
            else:
                result.callback(outcome.value)
        self._tell_idle()

    def _in_thread(self, worker: Worker, work: Callable[[], T]) -> Deferred[T]:
        result: Deferred[T] = Deferred()

        def perform() -> None:
            try:
                value = work()
            except BaseException as error:  # likewise
                self._reactor.callFromThread(result.errback, error)
            else:
                self._reactor.callFromThread(result.callback, value)

        worker.do(perform)
        return result

    def _tell_idle(self) -> None:
        if self._idle is not None and not (self._waiting or self._writing or self._reading or self._telling):
            idle, self._idle = self._idle, None
            idle.callback(None)


def _store(url: str, threads: int) -> Store:
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        raise ConfigError(
            "the database's URL is neither like sqlite:///var/msgd.sqlite3 nor like postgresql://user@host/name",
            where="database.url",
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError("SQLite needs a file: sqlite:///var/msgd.sqlite3", where="database.url")
        return SQLiteStore(parsed, readers=threads)
    if kind == "postgresql":
        return PostgreSQLStore(parsed, threads=threads)
    raise ConfigError(f"{kind} is not supported: sqlite or postgresql", where="database.url")
