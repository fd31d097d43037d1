"""What the drivers' errors mean to msgd: what passes is DatabaseUnavailable or Overloaded, the rest stays as it is."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from msgd.errors import DatabaseUnavailable, MsgdError, Overloaded

DISK_FULL_RETRY_S: Final = 30.0
"""Somebody has to make room first: earlier repeats only add load."""

CONFLICTS: Final = frozenset({"40001", "40P01"})
"""PostgreSQL's serialization failure and deadlock: the same change may pass at once when it is tried again."""

READ_ONLY: Final = "25006"
"""PostgreSQL's error for a write in a read-only transaction."""

# PostgreSQL's manual, appendix A (error codes), by class or in full.
_PG_UNAVAILABLE: Final = (
    "08",  # connection exceptions
    "40",  # transaction rollback
    "53",  # insufficient resources: connections, memory
    "55P03",  # lock not available
    "57014",  # cancelled, by statement_timeout too
    "57P",  # shutting down, starting up
    "58",  # I/O errors
    READ_ONLY,  # a standby after a failover
    "XX000",  # internal error, such as a connection that a proxy has cut
)
_PG_FULL: Final = ("53100",)

_SQLITE_UNAVAILABLE: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)


def sqlstate(error: BaseException) -> str:
    """The five characters with which PostgreSQL names an error; empty if ``error`` is none of its errors."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def translated(error: BaseException, database: str) -> BaseException:
    """What to raise for ``error``, itself if it is none that passes. ``database``: which one, for the message."""
    if isinstance(error, MsgdError) or not isinstance(error, SQLAlchemyError):
        return error
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("no connection to the database became free in time", where=database)
    if not isinstance(error, DBAPIError):
        return error
    if isinstance(error.orig, sqlite3.Error):
        return _translated_sqlite(error, error.orig, database)
    reason = str(error.orig).strip()
    state = sqlstate(error)
    if state.startswith(_PG_FULL):
        return _full(reason, database)
    # Without a state the error is libpq's own: no server, a cut connection, a timeout.
    passing = state.startswith(_PG_UNAVAILABLE) if state else isinstance(error, (OperationalError, InterfaceError))
    if passing or error.connection_invalidated:
        return DatabaseUnavailable(f"the database gave up: {reason}", where=database)
    return error


def _translated_sqlite(error: DBAPIError, cause: sqlite3.Error, database: str) -> BaseException:
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        return error
    primary = code & 0xFF  # the extended code's upper bits only say more (https://sqlite.org/rescode.html)
    if primary == sqlite3.SQLITE_FULL:
        return _full(str(cause), database)
    if primary in _SQLITE_UNAVAILABLE:
        return DatabaseUnavailable(f"SQLite gave up: {cause} ({cause.sqlite_errorname})", where=database)
    return error


def _full(reason: str, database: str) -> Overloaded:
    return Overloaded(
        f"the database's disk is full: {reason}. Make room; nothing was changed",
        where=database,
        retry_after=DISK_FULL_RETRY_S,
    )
