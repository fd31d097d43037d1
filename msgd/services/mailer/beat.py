"""One beat for all slices of a process: what they write, or tell, at a beat leaves together."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from msgd.clock import Clock

_log = Logger()


class Beat:
    """Calls what was asked for since the last beat. Where nothing was for a while, the next one is at once."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        """``interval_s``: from one beat to the next, at least."""
        self._clock = clock
        self._interval_s = interval_s
        self._due: list[Callable[[], object]] = []
        self._next_s = 0.0  # not before then

    def at_next(self, call: Callable[[], object]) -> None:
        """``call`` is never called within this call."""
        self._due.append(call)
        if len(self._due) == 1:
            wait_s = self._next_s - self._clock.seconds()
            self._clock.callLater(min(max(0.0, wait_s), self._interval_s), self._now)

    def _now(self) -> None:
        self._next_s = self._clock.seconds() + self._interval_s
        due, self._due = self._due, []
        for call in due:
            try:
                call()
            except Exception:  # of one slice, which nothing is known of here: the others are called all the same
                _log.failure("unexpected, at a beat of the mailings")
