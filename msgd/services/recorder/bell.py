"""Something to wait for that may happen again and again: a ring that nobody waits for is heard by the next who does."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from msgd.clock import Clock


class Bell:
    """One waits, any number ring."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: Deferred[bool] | None = None

    def ring(self) -> None:
        """Wake the waiter, or have the next wait end at once."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self._rung = True
        else:
            waiter.callback(True)

    def wait(self, seconds: float) -> Deferred[bool]:
        """Fires with True at the next ring, with False after so many seconds without one. Cancel it to stop waiting."""
        if self._rung:
            self._rung = False
            return succeed(True)
        waiter: Deferred[bool] = Deferred()
        self._waiter = waiter
        late = self._clock.callLater(seconds, self._give_up)

        def over(rung: bool) -> bool:
            self._waiter = None
            if late.active():
                late.cancel()
            return rung

        return waiter.addBoth(over)

    def _give_up(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(False)
