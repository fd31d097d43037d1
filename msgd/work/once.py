"""Something that happens once, and that many may wait for: a Deferred gives its result to one waiter only."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed


class Once:
    """An occurrence. Waiters are told in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []
        self._happened = False

    @property
    def happened(self) -> bool:
        return self._happened

    def wait(self) -> Deferred[None]:
        """Fires when it happens, at once if it has. Cancel it to stop waiting."""
        if self._happened:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def happen(self) -> None:
        """Tell all who wait. Harmless if it has happened before."""
        self._happened = True
        while self._waiting:
            self._waiting.pop(0).callback(None)
