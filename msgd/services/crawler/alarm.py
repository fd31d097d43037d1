"""A bell that a loop waits for, and timers by name that ring it or do something else."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from msgd.clock import Clock, DelayedCall


class Alarm:
    """Of one loop. What rings while nobody waits is not remembered: the loop looks around before it waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bell: Deferred[None] | None = None
        self._timers: dict[str, DelayedCall] = {}

    async def ring(self) -> None:
        """Returns at the next :meth:`wake`."""
        self._bell = Deferred()
        try:
            await self._bell
        finally:
            self._bell = None

    def wake(self) -> None:
        """Something has happened that the loop must look at."""
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.callback(None)

    def call_later(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        """Call it then. One call of each name at a time; a later one takes its place."""
        earlier = self._timers.pop(name, None)
        if earlier is not None:
            earlier.cancel()

        def fire() -> None:
            del self._timers[name]
            call()

        self._timers[name] = self._clock.callLater(seconds, fire)

    def is_set(self, name: str) -> bool:
        """Whether a call of that name is to come."""
        return name in self._timers

    def stop(self) -> None:
        """Forget all calls."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
