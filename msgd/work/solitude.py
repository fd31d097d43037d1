"""A slice that has taken processes down is performed with nothing beside it: if it does so again, it goes alone."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, succeed


class Solitude:
    """Many may be inside together, or one alone. Whoever wants to be alone comes before all others that wait."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = False
        self._together_waiting: deque[Deferred[None]] = deque()
        self._alone_waiting: deque[Deferred[None]] = deque()

    @property
    def wanted(self) -> bool:
        """Whether one is alone inside, or waits to be: begin nothing that can wait."""
        return self._alone or bool(self._alone_waiting)

    def enter(self, *, alone: bool) -> Deferred[None]:
        """Fires when inside. Cancel it to stop waiting; once it has fired, :meth:`leave` must follow."""
        if self._inside == 0 if alone else not self.wanted:
            self._inside += 1
            self._alone = alone
            return succeed(None)
        queue = self._alone_waiting if alone else self._together_waiting

        def give_up(waiter: Deferred[None]) -> None:
            queue.remove(waiter)
            self._admit()

        waiter: Deferred[None] = Deferred(give_up)
        queue.append(waiter)
        return waiter

    def leave(self) -> None:
        """One that was inside is out."""
        self._inside -= 1
        self._alone = False
        self._admit()

    def _admit(self) -> None:
        if self._alone_waiting:
            if self._inside == 0:
                self._inside = 1
                self._alone = True
                self._alone_waiting.popleft().callback(None)
        elif not self._alone:
            # A callback may leave again, or bring in one that wants to be alone.
            while self._together_waiting and not self.wanted:
                self._inside += 1
                self._together_waiting.popleft().callback(None)
