"""What the two databases have in common, seen from a thread: all calls here block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

T = TypeVar("T")

Transaction = Connection
"""An open transaction: what a query or a change gets. It is committed or rolled back by whoever opened it."""


class Outcome(Struct, frozen=True):
    """What became of one change: its value, or the error that rolled it back."""

    value: Any = None
    error: BaseException | None = None


class Store(Protocol):
    """A database that performs queries and changes; errors that pass are msgd's (see ``failures``)."""

    writers: int
    """How many :meth:`write` calls may run at a time."""

    joined: int
    """How many changes one transaction may take."""

    def open(self, prepare: Callable[[Transaction], None]) -> None:
        """Connect, and bring the schema up to date with ``prepare`` in a transaction of its own."""

    def close(self) -> None: ...

    def read(self, query: Callable[[Transaction], T]) -> T:
        """What ``query`` returns, from one consistent snapshot that it cannot change."""

    def write(self, changes: Sequence[Callable[[Transaction], Any]]) -> list[Outcome]:
        """Perform ``changes`` in one transaction, each for itself; returns after the commit."""
