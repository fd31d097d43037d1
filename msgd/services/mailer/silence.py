"""For how long a server may say nothing: one timer for many waits."""

from __future__ import annotations

from collections.abc import Callable

from msgd.clock import Clock, DelayedCall


class Silence:
    """Calls ``over`` when a wait has lasted too long. A wait that ends in time leaves the timer where it is, and the
    next one finds it there: the queue of timers is not touched several times a mail."""

    def __init__(self, clock: Clock, over: Callable[[], None]) -> None:
        self._clock = clock
        self._over = over
        self._until_s: float | None = None
        self._timer: DelayedCall | None = None
        self._due_s = 0.0

    def begin(self, seconds: float) -> None:
        """Wait so long from now, whatever was waited for before."""
        until_s = self._until_s = self._clock.seconds() + seconds
        if self._timer is None:
            self._set(until_s, seconds)
        elif self._due_s > until_s:
            self._timer.reset(seconds)
            self._due_s = until_s

    def end(self) -> None:
        """Nothing is waited for."""
        self._until_s = None

    def close(self) -> None:
        """The same, for good."""
        self._until_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due_s: float, seconds: float) -> None:
        self._due_s = due_s
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._until_s is None:
            return
        left_s = self._until_s - self._clock.seconds()
        if left_s > 0:
            self._set(self._until_s, left_s)
        else:
            self._until_s = None
            self._over()
