"""SQLite: one writer, any number of readers, every commit on the disk before it is said to be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from msgd.database.bulk import FROM_BASE64, from_base64
from msgd.database.direct import performed
from msgd.database.failures import translated
from msgd.database.store import Outcome, Transaction
from msgd.errors import DatabaseUnavailable

T = TypeVar("T")

BUSY_S: Final = 10.0
"""How long to wait for another process's writing transaction: theirs are as short as ours. ``?timeout=`` in the URL
says otherwise."""

JOINED: Final = 500
"""Changes in one transaction: enough to hide the cost of the sync, few enough not to hold up the first of them."""

WAL_BYTES: Final = 64 * 1024 * 1024
"""To which the write-ahead log is cut back after a checkpoint, should a long reader have let it grow."""

_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit is on the disk: "submitted means safe" rests on it
    "foreign_keys = ON",
    f"journal_size_limit = {WAL_BYTES}",
    "temp_store = MEMORY",
)


class SQLiteStore:
    """One file in WAL mode: readers see the last commit and never wait for the writer."""

    writers = 1
    joined = JOINED

    def __init__(self, url: URL, *, readers: int) -> None:
        self._path = url.database or ""
        self._name = f"sqlite:///{self._path}"
        # A deferred transaction that reads first and then writes fails with "database is locked" without waiting.
        self._writer = _engine(url, 1, begin="BEGIN IMMEDIATE")
        self._reader = _engine(url, readers, begin="BEGIN", read_only=True)
        self._writing: Connection | None = None

    def open(self, prepare: Callable[[Transaction], None]) -> None:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._writer.connect() as connection:
                # Foreign keys are off while tables are rebuilt, which is how SQLite alters them; not so inside a
                # transaction, so it is said before one begins (https://sqlite.org/lang_altertable.html#otheralter).
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.execute("PRAGMA foreign_keys = OFF")
                try:
                    with connection.begin():
                        prepare(connection)
                finally:
                    driver.execute("PRAGMA foreign_keys = ON")
        except Exception as error:
            raise translated(error, self._name) from error

    def close(self) -> None:
        self._let_go()
        self._reader.dispose()
        self._writer.dispose()

    def read(self, query: Callable[[Transaction], T]) -> T:
        try:
            with self._reader.connect() as connection, connection.begin():
                return query(connection)
        except Exception as error:
            raise translated(error, self._name) from error

    def write(self, changes: Sequence[Callable[[Transaction], Any]]) -> list[Outcome]:
        try:
            connection = self._held()
            with connection.begin():
                if len(changes) == 1:  # its error rolls back the transaction: no savepoint needed
                    return [Outcome(changes[0](connection))]
                return [self._one(connection, change) for change in changes]
        except Exception as error:
            self._let_go()
            passed = translated(error, self._name)
            return [Outcome(error=passed)] * len(changes)

    def _held(self) -> Connection:
        """The writer's connection, kept until something fails: to take it from the pool and to give it back costs more
        than an empty transaction."""
        if self._writing is None:
            self._writing = self._writer.connect()
        return self._writing

    def _let_go(self) -> None:
        held, self._writing = self._writing, None
        if held is not None:
            held.close()

    def _one(self, connection: Transaction, change: Callable[[Transaction], Any]) -> Outcome:
        """One change in its savepoint."""
        performed(connection, "SAVEPOINT change")
        try:
            outcome = Outcome(change(connection))
        except Exception as error:
            driver = connection.connection.driver_connection
            if not isinstance(driver, SQLiteConnection) or not driver.in_transaction:
                # A full disk or an I/O error ends the whole transaction, also for the changes before this one.
                passed = translated(error, self._name)
                if passed is error:
                    passed = DatabaseUnavailable(f"SQLite ended the transaction: {error}", where=self._name)
                raise passed from error
            performed(connection, "ROLLBACK TO change")
            outcome = Outcome(error=translated(error, self._name))
        performed(connection, "RELEASE change")
        return outcome


def _engine(url: URL, size: int, *, begin: str, read_only: bool = False) -> Engine:
    if "timeout" not in url.query:
        url = url.update_query_dict({"timeout": str(BUSY_S)})
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        # A connection moves between our threads, and is never used by two at a time.
        connect_args={"check_same_thread": False},
    )
    pragmas = [*_PRAGMAS, "query_only = ON"] if read_only else _PRAGMAS

    def set_up(driver: SQLiteConnection, _record: object) -> None:
        driver.isolation_level = None  # the module is not to begin transactions by itself: we say how
        for pragma in pragmas:
            driver.execute(f"PRAGMA {pragma}")
        driver.create_function(FROM_BASE64, 1, from_base64, deterministic=True)

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", lambda connection: performed(connection, begin))
    return engine
