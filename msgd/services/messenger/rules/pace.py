"""How many messages a rule may send: a token bucket that fills within an hour. Pure."""

from __future__ import annotations

import math
from typing import Final

HOUR_MS: Final = 3_600_000


def refilled(tokens: float, since_ms: int, now_ms: int, hourly: int) -> float:
    """The messages that may be sent at ``now_ms``, of ``tokens`` at ``since_ms``; never more than an hour's."""
    passed_ms = max(now_ms - since_ms, 0)  # a clock that was set back gives nothing
    return min(tokens + passed_ms * hourly / HOUR_MS, float(hourly))


def next_ms(tokens: float, since_ms: int, now_ms: int, hourly: int) -> int:
    """Milliseconds until one message may be sent; 0: now."""
    missing = 1.0 - refilled(tokens, since_ms, now_ms, hourly)
    return max(1, math.ceil(missing * HOUR_MS / hourly)) if missing > 0 else 0
