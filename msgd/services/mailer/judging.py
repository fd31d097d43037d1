"""What becomes of a recipient after an attempt: pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from msgd.services.mailer.ledger import Ended, Row, RowState
from msgd.services.mailer.replies import Accepted, Dropped, Outcome, Refused, Unclear

LONGEST_DEFER_S: Final = 4 * 3600.0
"""Between two attempts; the first pauses are shorter (RFC 5321 §4.5.4.1: at least 30 minutes, more often at first)."""


class Patience(Struct, frozen=True):
    """How long a recipient is tried: ``[mail] defer`` and ``give_up``, in seconds."""

    defer_s: float = 300.0  # after the first attempt, twice as long after each further one
    give_up_s: float = 2 * 86400.0  # since the first attempt


def judge(row: Row, outcome: Outcome, now_ms: int, jitter: float, patience: Patience) -> Ended:
    """The row after its attempt. ``jitter``: from 0 to 1, so that what was deferred together does not come together."""
    attempt = row.attempt + 1
    match outcome:
        case Accepted(code, reply):
            return Ended(row.row, RowState.SENT, attempt, code, reply)
        case Unclear(reason):
            return Ended(row.row, RowState.UNKNOWN, attempt, None, reason)
        case Dropped(reason):
            return _deferred(row, None, reason, now_ms, jitter, patience)
        case Refused(code, reply) if outcome.passes:
            return _deferred(row, code, reply, now_ms, jitter, patience)
        case Refused(code, reply):
            suppress = (row.key, row.email) if outcome.no_such_user else None
            return Ended(row.row, RowState.BOUNCED, attempt, code, reply, suppress=suppress)


def _deferred(row: Row, code: int | None, reply: str, now_ms: int, jitter: float, patience: Patience) -> Ended:
    attempt = row.attempt + 1
    first_ms = row.first_ms if row.first_ms is not None else now_ms
    if now_ms - first_ms >= patience.give_up_s * 1000:
        return Ended(row.row, RowState.BOUNCED, attempt, code, f"given up after {attempt} attempts: {reply}")
    pause_s = min(LONGEST_DEFER_S, patience.defer_s * 2.0 ** min(row.attempt, 30))
    next_ms = now_ms + round(pause_s * (0.75 + jitter / 2) * 1000)
    return Ended(row.row, RowState.DEFERRED, attempt, code, reply, next_ms)
