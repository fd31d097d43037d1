"""A bell that a loop waits for, and one timer that rings it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from msgd.clock import Clock


class Bell:
    """Of one loop. What rings while nobody waits is not remembered: the loop looks around before it waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiter: Deferred[None] | None = None

    async def wait(self, seconds: float | None = None) -> None:
        """Returns at the next :meth:`ring`, or after so long."""
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        timer = None if seconds is None else self._clock.callLater(max(0.0, seconds), self.ring)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None and timer.active():
                timer.cancel()

    def ring(self) -> None:
        """Something has happened that the loop must look at."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
