"""When to try again: exponential backoff with full jitter. Pure.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: full jitter needs the fewest calls.
"""

from __future__ import annotations

from typing import Final

from msgd.errors import MsgdError

BASE_S: Final = 2.0
LONGEST_S: Final = 3600.0
"""An hour: whoever mends what is broken sees within it that it works again."""

LONGEST_ASKED_S: Final = 86_400.0
"""A peer that asks for more than a day is asked again after a day: it may not know what it says."""

_LAST_DOUBLING: Final = 12
"""2^12 s is beyond the longest: further doubling could only overflow."""


def backoff_s(attempt: int, error: BaseException | None, jitter: float, *, asked_s: float | None = None) -> float:
    """Seconds until the attempt after failed attempt number ``attempt`` (from 1).

    ``2^attempt`` seconds at most, and never over an hour, times ``jitter``, a random number from 0 to 1. A time
    that was asked for (``asked_s``, else the error's ``retry_after``) is a lower bound that jitter only adds to, by a
    tenth at most: all who were told the same time must not come back at the same moment.
    """
    if asked_s is None and isinstance(error, MsgdError):
        asked_s = error.retry_after
    if asked_s is not None:
        return min(max(asked_s, 0.0) * (1 + jitter / 10), LONGEST_ASKED_S)
    return min(BASE_S ** min(max(attempt, 1), _LAST_DOUBLING), LONGEST_S) * jitter
