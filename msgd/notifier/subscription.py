"""One reader's place: every kept event once, in order, from history into live push and back (DESIGN §3, "Resume of any
length").

=========  ===============================================  =====================================================
phase      what is shown                                    goes on to
=========  ===============================================  =====================================================
cursor     nothing: the reader's socket is full             paging, when it has drained
paging     pages of history; live events are kept aside     live, when history has come to where those begin; cursor
live       live events                                      cursor, when the socket is full
=========  ===============================================  =====================================================

Pure: it knows positions, not sockets. An event's place is its ``pos``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from msgd.notifier.limits import JOIN_EVENTS


class Positioned(Protocol):
    """Anything with a place in the journal."""

    @property
    def pos(self) -> int: ...


I = TypeVar("I", bound=Positioned)  # noqa: E741  (an item)


class Phase(enum.Enum):
    """How a reader is fed."""

    CURSOR = "cursor"
    PAGING = "paging"
    LIVE = "live"


# To look up a member of an Enum takes a quarter of a microsecond (Python 3.11), and there is one for each delivery.
_CURSOR: Final = Phase.CURSOR
_PAGING: Final = Phase.PAGING
_LIVE: Final = Phase.LIVE


class Subscription(Generic[I]):
    """The place of one reader.

    ``pos``: it has been shown everything up to here. ``floor``: every live event after here is offered to it; None
    until it is known where that begins (its buckets are being bound).
    """

    def __init__(self, pos: int, floor: int | None = None) -> None:
        self.pos = pos
        self._floor = floor
        self._aside: list[I] = []
        self.phase = _PAGING
        self._join()

    @property
    def live(self) -> bool:
        return self.phase is _LIVE

    @property
    def paging(self) -> bool:
        return self.phase is _PAGING

    def bound(self, floor: int) -> Sequence[I]:
        """From ``floor`` on live events are offered. Returns what is to be shown, if that makes the reader live."""
        self._floor = floor
        return self._join()

    def follow(self, first: int, last: int) -> bool:
        """Whether live events from ``first`` to ``last`` can all be shown, as mostly; they are taken for shown then. If
        not, they are to be offered."""
        if self.phase is _LIVE and first > self.pos:
            self.pos = last
            return True
        return False

    def offer(self, items: Sequence[I]) -> Sequence[I]:
        """Live events, in order; returns those to be shown now: ``items`` itself, if that is all of them."""
        if self.phase is _LIVE and items and items[0].pos > self.pos:
            self.pos = items[-1].pos
            return items
        fresh = [item for item in items if item.pos > self.pos]
        if not fresh:
            return ()
        if self.phase is _LIVE:
            self.pos = fresh[-1].pos
            return fresh
        if self.phase is _PAGING and self._floor is not None:
            self._aside.extend(fresh)
            if len(self._aside) > JOIN_EVENTS:
                self._give_up_aside()
        elif self._floor is not None:
            self._floor = max(self._floor, fresh[-1].pos)
        return ()

    def page(self, items: Sequence[I], upto: int) -> Sequence[I]:
        """A page of history that ends at ``upto``; returns what is to be shown now."""
        if self.phase is not _PAGING:
            return ()
        fresh = items if items and items[0].pos > self.pos else [item for item in items if item.pos > self.pos]
        self.pos = max(self.pos, upto)
        joined = self._join()
        return [*fresh, *joined] if joined else fresh

    def full(self, pos: int | None = None) -> None:
        """The socket takes no more; ``pos``: of what was to be shown, only what lies up to there was."""
        self._give_up_aside()
        if pos is not None:
            # What was offered beyond has been taken for shown: history has it.
            if self._floor is not None:
                self._floor = max(self._floor, self.pos)
            self.pos = pos
        self.phase = _CURSOR

    def drained(self) -> None:
        """The socket takes more: history is read from here on, unless nothing has happened meanwhile."""
        if self.phase is _CURSOR:
            self.phase = _PAGING
            self._join()

    def moved(self, pos: int, floor: int | None) -> None:
        """The journal says that the reader stands at ``pos``: at its beginning, or after a change of epoch."""
        self._aside = []
        self.pos = pos
        self._floor = floor
        self.phase = _PAGING
        self._join()

    def _join(self) -> Sequence[I]:
        """Go live if history has come to where the live events begin."""
        if self.phase is not _PAGING or self._floor is None or self.pos < self._floor:
            return ()
        self.phase = _LIVE
        aside, self._aside = self._aside, []
        fresh = [item for item in aside if item.pos > self.pos]
        if fresh:
            self.pos = fresh[-1].pos
        return fresh

    def _give_up_aside(self) -> None:
        if self._aside and self._floor is not None:
            self._floor = max(self._floor, self._aside[-1].pos)
        self._aside = []
