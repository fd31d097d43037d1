"""PostgreSQL through psycopg 3: a pool of connections, conflicts tried again, reconnects by themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import sleep
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

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


class PostgreSQLStore:
    """A server's database. Changes run in parallel, each in a transaction of its own (read committed)."""

    joined = 1

    def __init__(self, url: URL, *, threads: int) -> None:
        self.writers = threads
        self._name = url.render_as_string(hide_password=True)
        self._engine: Engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=2 * threads,  # readers and writers
            max_overflow=0,
            pool_timeout=POOL_S,
            connect_args=_CONNECT | dict(url.query),
        )
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def open(self, prepare: Callable[[Transaction], None]) -> None:
        def locked(connection: Transaction) -> None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            prepare(connection)

        self._perform(self._engine, locked)

    def close(self) -> None:
        self._engine.dispose()

    def read(self, query: Callable[[Transaction], T]) -> T:
        return self._perform(self._snapshots, query)

    def write(self, changes: Sequence[Callable[[Transaction], Any]]) -> list[Outcome]:
        return [self._outcome(change) for change in changes]

    def _outcome(self, change: Callable[[Transaction], Any]) -> Outcome:
        try:
            return Outcome(self._perform(self._engine, change))
        except Exception as error:
            return Outcome(error=error)

    def _perform(self, engine: Engine, work: Callable[[Transaction], T]) -> T:
        """``work`` in a transaction, again after a conflict, and after a pooled connection that turned out dead."""
        for attempt in range(ATTEMPTS):
            committing = False
            try:
                with engine.connect() as connection, connection.begin() as transaction:
                    result = work(connection)
                    committing = True
                    transaction.commit()
                return result
            except Exception as error:
                # A connection cut during the commit leaves open whether it happened: that is the caller's to settle.
                again = _conflict(error) or (_cut(error) and not committing)
                if engine is self._snapshots and sqlstate(error) == READ_ONLY:
                    raise  # a query that writes: that is a mistake in it, not a standby server
                if not again or attempt == ATTEMPTS - 1:
                    raise translated(error, self._name) from error
            # At once, the change could take its first lock again before the one that waited for it wakes up.
            sleep(random.uniform(0, PAUSE_S * 2**attempt))
        raise AssertionError("unreachable")


def _conflict(error: Exception) -> bool:
    return sqlstate(error) in CONFLICTS


def _cut(error: Exception) -> bool:
    """Whether an open connection was lost (a failure to connect is not repeated: the caller has its own patience)."""
    return isinstance(error, DBAPIError) and error.connection_invalidated
