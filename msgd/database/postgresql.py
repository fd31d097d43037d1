"""PostgreSQL through psycopg 3: a pool of connections, conflicts tried again, reconnects by themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import sleep
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import URL, Dialect, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from msgd.database import pipeline
from msgd.database.failures import CONFLICTS, READ_ONLY, sqlstate, translated
from msgd.database.store import Outcome, Transaction

T = TypeVar("T")

ATTEMPTS: Final = 4
"""How often a change is tried that meets a conflict or a connection that had died: two changes seldom meet twice."""

PAUSE_S: Final = 0.01
"""The longest pause before the second try; it doubles with each."""

CONNECT_S: Final = 10
POOL_S: Final = 15.0
"""How long a thread waits for a connection; there are as many as threads, so only a reconnect takes long."""

MIGRATION_LOCK: Final = 0x6D736764
"""Number of the advisory lock under which one process of many brings the schema up to date ("msgd" in ASCII)."""

_CONNECT: Final = {
    "connect_timeout": CONNECT_S,
    "application_name": "msgd",
    # A server that vanished without a word is noticed in half a minute, not in the kernel's two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}

_SESSION: Final = "SET enable_seqscan = off; SET jit = off"
"""Whatever passes in numbers is looked up by key, or through an index made for it. The driver prepares it, and the
server keeps the plan that it made while the table was small: to read the whole of it. Until the next ANALYZE, minutes
later, every claim read all the jobs there were (seen: 60 ms with 30,000 of them). A scan that is the only way is still
taken; at the price it is given then, the server would compile it first."""


class PostgreSQLStore:
    """A server's database. Changes run in parallel, each in a transaction of its own (read committed)."""

    joined = 1

    def __init__(self, url: URL, *, threads: int) -> None:
        self.writers = threads
        self.name = url.render_as_string(hide_password=True)
        self._engine: Engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=2 * threads,  # readers and writers
            max_overflow=0,
            pool_timeout=POOL_S,
            # The connection used last first: a server process that has just prepared and planned these statements. In
            # turn, all eight would do so, and a job that does nothing costs a sixth more.
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",  # BEGIN and COMMIT are the pipeline's
            connect_args=_CONNECT | dict(url.query),
        )
        event.listen(self._engine, "connect", _set_up)
        event.listen(self._engine, "before_cursor_execute", pipeline.flush_first)

    def open(self, prepare: Callable[[Transaction], None]) -> None:
        def locked(connection: Transaction) -> None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            prepare(connection)

        self._perform(locked)

    def close(self) -> None:
        self._engine.dispose()

    def lend(self) -> tuple[psycopg.Connection[Any], Dialect]:
        """A connection beside the pool's, for a :class:`~msgd.database.shortcut.Shortcut`."""
        dialect = self._engine.dialect
        arguments, found = dialect.create_connect_args(self._engine.url)
        options: dict[str, Any] = _CONNECT | dict(found) | {"client_encoding": "utf8"}
        driver: psycopg.Connection[Any] = psycopg.connect(*arguments, **options)
        try:
            _set_up(driver, None)
        except BaseException:  # whatever it is: the connection is nobody's
            driver.close()
            raise
        return driver, dialect

    def read(self, query: Callable[[Transaction], T]) -> T:
        return self._perform(query, begin=pipeline.BEGIN_READING)

    def write(self, changes: Sequence[Callable[[Transaction], Any]]) -> list[Outcome]:
        return [self._outcome(change) for change in changes]

    def _outcome(self, change: Callable[[Transaction], Any]) -> Outcome:
        try:
            return Outcome(self._perform(change))
        except Exception as error:  # whatever it is, it goes to whoever asked for this change
            return Outcome(error=error)

    def _perform(self, work: Callable[[Transaction], T], begin: bytes = pipeline.BEGIN) -> T:
        """``work`` in a transaction, again after a conflict, and after a pooled connection that turned out dead."""
        for attempt in range(ATTEMPTS):
            committing = False
            try:
                with self._engine.connect() as connection:
                    if not pipeline.is_alive(connection):
                        connection.invalidate()  # and connect anew
                    with connection.begin():
                        statements = pipeline.begin(connection, begin)
                        result = work(connection)
                        committing = True
                        statements.commit()
                return result
            except Exception as error:
                # A connection cut during the commit leaves open whether it happened: that is the caller's to settle.
                again = _conflict(error) or (_cut(error) and not committing)
                if begin is pipeline.BEGIN_READING and sqlstate(error) == READ_ONLY:
                    raise  # a query that writes: that is a mistake in it, not a standby server
                if not again or attempt == ATTEMPTS - 1:
                    raise translated(error, self.name) from error
            # At once, the change could take its first lock again before the one that waited for it wakes up.
            sleep(random.uniform(0, PAUSE_S * 2**attempt))
        raise AssertionError("unreachable")


def _set_up(driver: Any, _record: object) -> None:
    driver.execute(_SESSION)
    driver.commit()
    driver.adapters.register_dumper(pipeline.ByteArrays, pipeline.ByteArraysDumper)


def _conflict(error: Exception) -> bool:
    return sqlstate(error) in CONFLICTS


def _cut(error: Exception) -> bool:
    """Whether an open connection was lost (a failure to connect is not repeated: the caller has its own patience)."""
    return isinstance(error, DBAPIError) and error.connection_invalidated
