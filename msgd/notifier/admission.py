"""Who is let in, and how fast: WebSockets and event streams open at a steady pace, so that a herd that comes back at
once does not stop the service of those who are in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgd.errors import Overloaded, Unavailable
from msgd.notifier.limits import HERD_SPREAD_S
from msgd.notifier.quotas import Rate

_EVERYBODY: Final = ""
"""The pace is of all together."""


class Admission:
    """Lets openings in, until it is closed."""

    def __init__(self, rate: float, clock: Any, random: Callable[[], float]) -> None:
        """``rate``: openings a second, 0 for no limit; ``random``: 0 to 1, to spread those who have to come again."""
        self._pace = Rate(rate, max(1.0, rate))
        self._clock = clock
        self._random = random
        self.closed = False

    def close(self) -> None:
        """This process stops: nothing opens any more, and what is asked is answered for the last time."""
        self.closed = True

    def admit(self) -> None:
        """One more is opened. Raises Overloaded or Unavailable, saying when to come again."""
        again_s = 1 + HERD_SPREAD_S * self._random()
        if self.closed:
            raise Unavailable("this server is stopping: connect anew", retry_after=again_s)
        if self._pace.take(_EVERYBODY, self._clock.seconds()) > 0:
            raise Overloaded("too many connect at once: come again in a moment", retry_after=again_s)
