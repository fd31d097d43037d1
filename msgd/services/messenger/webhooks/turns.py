"""How many requests to one receiver may be under way, so that a slow one does not hold up the others: pure.

Who comes while all of its receiver's turns are taken is told when its own will probably be, and gives up its slot until
then. So those who wait cost nothing, and come back one after the other, about as fast as the receiver answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LONGEST_S: Final = 60.0
"""Until somebody who waits looks again: a receiver that was slow may be quick again by then."""

SHORTEST_S: Final = 0.2
"""What a request is taken to last at least: whoever waits has gone through the outbox and the broker."""

_WEIGHT: Final = 0.3
"""Of the latest request, in the mean of how long they last."""


@dataclass
class _Line:
    """The requests to one receiver."""

    under_way: int = 0
    mean_s: float = 1.0
    next_s: float = 0.0  # when the next one who waits may come


class Turns:
    """The turns of all receivers of a process. What is not under way is forgotten."""

    def __init__(self, at_once: int) -> None:
        """``at_once``: requests to one receiver."""
        self._at_once = at_once
        self._lines: dict[str, _Line] = {}

    def take(self, receiver: str, now_s: float) -> float:
        """0: go on, and :meth:`leave` in the end; else the seconds after which to come again."""
        line = self._lines.setdefault(receiver, _Line())
        if line.under_way < self._at_once:
            line.under_way += 1
            return 0.0
        line.next_s = max(line.next_s, now_s) + max(line.mean_s, SHORTEST_S) / self._at_once
        return min(line.next_s - now_s, LONGEST_S)

    def leave(self, receiver: str, took_s: float) -> None:
        """A request is over, after ``took_s`` seconds."""
        line = self._lines[receiver]
        line.under_way -= 1
        line.mean_s += (took_s - line.mean_s) * _WEIGHT
        if not line.under_way:
            del self._lines[receiver]
