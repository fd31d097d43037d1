"""How many mails a process has in hand, all its slices together, and whose turn it is to hand one over. Pure.

A mail is taken in hand before it is made out and saved as *sending*; it then waits for its turn, has it while the way
out is at it, and stays in hand until what came of it is saved. So nothing waits for the database but the mail itself,
and a kill -9 leaves *unknown* what is in hand, and no more.

How many may be made ready ahead of their turn follows from how fast the server takes them: twice as many as it takes
while one is made ready. A server that takes one a second has hardly any waiting as *sending*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

IN_HAND: Final = 400
"""Mails of one process that may be *sending* at a time, however many connections it has (but for twice their number):
what a server that takes 2,000 a second is given in a fifth of a second, which is what saving them before and after
takes. A kill -9 leaves so many *unknown* at most; far fewer where the server is slower."""

LEAST: Final = 10
"""Mails that a slice may make ready of which none is: though the others have all hands full, of messages that take
seconds to be made perhaps."""

MEASURED_S: Final = 0.25
"""For how long it is counted how many a server takes; less, where it has taken as many as may be ready, so that a fast
one need not wait at the beginning, when these are few. But a time shorter than some are made ready in tells nothing:
each connection may have two mails, of which one follows the other, and after a stall a slow server answers all at
once."""


class Hand(Protocol):
    """A slice, as it shares the hands with others."""

    def begin_one(self) -> bool:
        """Begin to hand over one mail, if one may be now; whether it did."""

    @property
    def wanting(self) -> int:
        """How many it would take in hand, if it could."""

    def offer(self) -> None:
        """More may be taken in hand."""


class Hands:
    """The counts, and the turns of the slices."""

    def __init__(self, width: int, *, clock_s: Callable[[], float], rate: float = 0.0, most: int = IN_HAND) -> None:
        """``width``: how many may be handed over at a time; ``rate``: and in a second, 0 for no limit."""
        self._width = width
        self._most = max(most, 2 * width)
        limit = self._most // 2 if rate <= 0 else max(1, int(rate * MEASURED_S))
        self._ahead_least, self._ahead_limit = min(width, limit), max(limit, 1)
        self._clock_s = clock_s
        self._in_hand = 0
        self._ahead = 0  # of these, not yet handed over
        self._under_way = 0  # being handed over
        self._ahead_most = self._ahead_least
        self._since_s = 0.0
        self._taken = 0  # since then
        self._making_s = 0.0  # how long it takes to make some ready
        self._slices: deque[Hand] = deque()
        self._giving_turns = False

    # -- taking in hand ------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many may be taken in hand now."""
        return min(self._ahead_most - self._ahead, self._most - self._in_hand)

    def free_for(self, *, idle: bool) -> int:
        """The same for one slice. ``idle``: it has nothing ahead of its turn."""
        return max(self.free, min(LEAST, self._most - self._in_hand)) if idle else self.free

    def take(self, count: int) -> None:
        """So many are to be made ready."""
        self._in_hand += count
        self._ahead += count

    def made_ready(self, seconds: float) -> None:
        """Some of them are; it took so long."""
        self._making_s += (seconds - self._making_s) / (8 if self._making_s else 1)

    def pass_over(self, count: int) -> None:
        """So many of them will have no turn."""
        self._ahead -= count

    def give(self, count: int) -> None:
        """Of so many all is saved that there is to save."""
        self._in_hand -= count
        self._offer()

    def _offer(self) -> None:
        """To who wants the fewest first: a single mail does not wait for a newsletter, and of four parts of one the
        first is done before the others begin. It takes large batches, which cost less."""
        if self.free * 4 < self._ahead_most and self._ahead:
            return
        for one in sorted(self._slices, key=lambda one: one.wanting):
            if self.free <= 0:
                return
            if one.wanting:
                one.offer()

    # -- turns ---------------------------------------------------------------------------------------------------------

    def join(self, slice_: Hand) -> None:
        self._slices.append(slice_)

    def leave(self, slice_: Hand) -> None:
        self._slices.remove(slice_)

    @property
    def turn(self) -> bool:
        """Whether one may be handed over now."""
        return self._under_way < self._width

    def begin(self) -> None:
        """One that was ready is handed over."""
        self._ahead -= 1
        self._under_way += 1

    def pass_on(self) -> bool:
        """One that is handed over needs its turn no more if another begins at once: whether one does. Then its end is
        ``followed``."""
        self._under_way -= 1
        begun = not self._giving_turns and self._begin_one()
        if not begun:
            self._under_way += 1
        return begun

    def end(self, *, followed: bool = False) -> None:
        """It is over, whatever came of it; it stays in hand. ``followed``: another has its turn already."""
        if not followed:
            self._under_way -= 1
        self._count()
        self.give_turns()

    def give_turns(self) -> None:
        """Let the slices, one after the other, begin what they may."""
        if self._giving_turns:  # some end as soon as they begin
            return
        while self.turn and self._begin_one():
            pass
        self._offer()

    def _begin_one(self) -> bool:
        """Whether a slice began one, asked in turn."""
        self._giving_turns = True
        try:
            for _ in range(len(self._slices)):
                one = self._slices[0]
                self._slices.rotate(-1)
                if one.begin_one():
                    return True
            return False
        finally:
            self._giving_turns = False

    def _count(self) -> None:
        self._taken += 1
        now_s = self._clock_s()
        passed_s = now_s - self._since_s
        if passed_s >= MEASURED_S or self._taken >= self._ahead_most:
            fast = round(2 * self._taken * self._making_s / max(passed_s, self._making_s, 0.001))
            self._ahead_most = max(self._ahead_least, min(fast, self._ahead_limit))
            self._since_s, self._taken = now_s, 0
