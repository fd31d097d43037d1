"""Which of the waiting job messages is performed next: pure.

High before new. A quarter of the slots, at least one, prefers new jobs; the others prefer continuations. So short jobs
are not stuck behind long ones, and long ones finish. A slot whose preferred kind does not wait takes the other.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import Final


class Kind(enum.Enum):
    """The three queues of a job type (``topology.job_queues``)."""

    HIGH = "high"
    NEW = "new"
    MORE = "more"  # continuations


_NEW_FIRST: Final = (Kind.HIGH, Kind.NEW, Kind.MORE)
_MORE_FIRST: Final = (Kind.MORE, Kind.HIGH, Kind.NEW)

NEW_SHARE: Final = 4
"""One slot in so many prefers new jobs."""


def choose(waiting: Container[Kind], *, slots: int, new: int, more: int, last: Kind | None) -> Kind | None:
    """The kind to perform next; None if all slots are taken or nothing waits.

    ``waiting``: the kinds of which a message waits; ``slots``: how many may be performed at a time; ``new`` and
    ``more``: how many new jobs (also high ones) and continuations are being performed; ``last``: the kind that was
    begun last. A single slot cannot be divided: it takes turns.
    """
    if new + more >= slots:
        return None
    prefers_new = last in (Kind.MORE, None) if slots == 1 else new < max(1, slots // NEW_SHARE)
    for kind in _NEW_FIRST if prefers_new else _MORE_FIRST:
        if kind in waiting:
            return kind
    return None
