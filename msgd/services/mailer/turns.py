"""Whose turn it is with the press: mailings that have something to make get equal parts of its time. Pure.

Whoever has had the least is next (stride scheduling, C. Waldspurger and W. Weihl, 1995). A mailing that had nothing to
do for a while gets nothing for that, and one that is slow holds up the others for one message of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

FIRST_EACH_S: Final = 0.05
"""What one is expected to take before any has been made: of a new line one is taken at first."""

LEAST_EACH_S: Final = 1e-6
LEARNS: Final = 0.25
"""How much of what is expected is what the last one took; the rest is what was expected before."""


class Line(Generic[T]):
    """What waits to be made of one mailing. ``in_hand``: taken, and neither made nor put back yet."""

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.in_hand = 0
        self.had_s = 0.0
        self.held_until_s = 0.0  # until then others come first, also those that have nothing waiting just now
        self._each_s = FIRST_EACH_S

    @property
    def stands_s(self) -> float:
        """What it has had, with what it is to have for those in hand."""
        return self.had_s + self.in_hand * self._each_s

    def take(self, most: int, most_s: float) -> list[T]:
        """The next ones: as many as should take ``most_s`` together, but one at least and ``most`` at most."""
        count = min(len(self.waiting), max(1, min(most, int(most_s / self._each_s))))
        self.in_hand += count
        return [self.waiting.popleft() for _ in range(count)]

    def take_more(self) -> None:
        """One more is in hand, which did not wait."""
        self.in_hand += 1

    def took(self, seconds: float, *, usual: bool = True) -> None:
        """One of those in hand was made, or was not, after so long. ``usual``: the next ones will take as long."""
        self.in_hand -= 1
        self.had_s += seconds
        if usual:
            self._each_s += LEARNS * (max(seconds, LEAST_EACH_S) - self._each_s)

    def drop(self) -> None:
        """One of those in hand is not needed any more, and was not begun."""
        self.in_hand -= 1

    def put_back(self, one: T) -> None:
        """One of those in hand was not begun: it is the next again."""
        self.in_hand -= 1
        self.waiting.appendleft(one)

    def abandon(self) -> list[T]:
        """Nobody waits any more; who did until now."""
        left = list(self.waiting)
        self.waiting.clear()
        return left


L = TypeVar("L", bound=Line[Any])


class Turns(Generic[L]):
    """The lines of all mailings."""

    def __init__(self) -> None:
        self._lines: list[L] = []
        self._stands_s = 0.0  # who was next last

    def join(self, line: L) -> None:
        """There is one more."""
        self._lines.append(line)

    def leave(self, line: L) -> None:
        """It is not there any more. Harmless for one that is not there."""
        if line in self._lines:
            self._lines.remove(line)

    def put(self, line: L, one: Any) -> None:
        """Something more waits in a line."""
        if not line.waiting and not line.in_hand:
            line.had_s = max(line.had_s, self._stands_s)
        line.waiting.append(one)

    def next(self, now_s: float) -> L | None:
        """The line whose turn it is; None: nothing waits, or only who is held."""
        alone = len(self._lines) == 1
        ready = [line for line in self._lines if line.waiting and (alone or line.held_until_s <= now_s)]
        found = min(ready, key=lambda line: line.stands_s, default=None)
        if found is not None:
            self._stands_s = max(self._stands_s, found.stands_s)
        return found

    @property
    def held_until_s(self) -> float | None:
        """When the first of those that wait and are held is not held any more; None: nothing waits."""
        return min((line.held_until_s for line in self._lines if line.waiting), default=None)
