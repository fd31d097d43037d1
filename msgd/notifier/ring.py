"""The newest events of one topic, all of them after some place. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

from msgspec import Struct

from msgd.notifier.items import Item, Stretch

RING_EVENTS: Final = 2000
"""Events of one topic: some minutes of a busy room, about what clients that come back have missed."""

RING_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes, for topics of large events."""

SLACK: Final = 1.125
"""So much more may be there before the oldest go: cutting a list at its front moves the rest."""

ITEM_BYTES: Final = 1200
"""About what an event takes beside its data, which is there twice: as it came, and in its frame."""

_pos = attrgetter("pos")


class Reading(Struct, frozen=True):
    """A piece of history. ``upto``: all that matches up to here is in it, or before it; ``more``: it was cut."""

    items: Stretch
    upto: int
    more: bool


def cut(items: Sequence[Item], *, after: int, limit: int, upto: int, more: bool = False) -> Reading:
    """The first ``limit`` of ``items`` after ``after``; ``upto`` and ``more`` are those of all of them."""
    begin = bisect_right(items, after, key=_pos)
    if len(items) - begin > limit:
        stretch = Stretch(items[begin : begin + limit])
        return Reading(stretch, stretch[-1].pos, True)
    return Reading(Stretch(items[begin:]), upto, more)


def size_of(items: Iterable[Item]) -> int:
    """About how many bytes they take."""
    return sum(ITEM_BYTES + 2 * len(memoryview(item.event.data)) for item in items)


def _last_fitting(items: Sequence[Item], events: int, size: int) -> int:
    """Where the newest of ``items`` begin that are so many at most, and so many bytes."""
    begin = len(items)
    while begin and len(items) - begin < events:
        size -= size_of(items[begin - 1 : begin])
        if size < 0:
            break
        begin -= 1
    return begin


class Ring:
    """All events of a topic after ``after``."""

    __slots__ = ("_items", "after", "first", "mark", "size", "version")

    def __init__(self, after: int, mark: int) -> None:
        """``mark``: which binding of the bucket it relies on."""
        self.after = after
        self.mark = mark
        self.first = 0  # seq: what lies before it has been deleted, also if it is still on its way here
        self.size = 0  # bytes, about
        self.version = 0  # of what is in it
        self._items: list[Item] = []

    def extend(self, items: Sequence[Item]) -> None:
        """Newer ones, in order; those that are here already do not count."""
        last = self._items[-1].pos if self._items else self.after
        fresh = [item for item in items if item.pos > last and self._is_kept(item)]
        self._items += fresh
        self.size += size_of(fresh)
        self.version += 1
        if len(self._items) > SLACK * RING_EVENTS or self.size > SLACK * RING_BYTES:
            begin = _last_fitting(self._items, RING_EVENTS, RING_BYTES)
            gone = self._items[:begin]
            del self._items[:begin]
            self.after = gone[-1].pos
            self.size -= size_of(gone)

    def prepend(self, after: int, items: Sequence[Item]) -> bool:
        """Older ones, all between ``after`` and the ring's own; whether all of them found room."""
        older = [item for item in items if item.pos <= self.after and self._is_kept(item)]
        begin = _last_fitting(older, max(0, RING_EVENTS - len(self._items)), RING_BYTES - self.size)
        taken = older[begin:]
        self.after = older[begin - 1].pos if begin else after
        self._items[:0] = taken
        self.size += size_of(taken)
        self.version += 1
        return begin == 0

    def purge(self, first: int) -> None:
        """Those before seq ``first`` have been deleted."""
        self.first = max(self.first, first)
        kept = [item for item in self._items if self._is_kept(item)]
        if len(kept) < len(self._items):
            self._items = kept
            self.size = size_of(kept)
            self.version += 1

    def _is_kept(self, item: Item) -> bool:
        return item.event.seq is None or item.event.seq >= self.first

    def cut(self, after: int, limit: int, upto: int) -> Reading:
        """The next events after ``after``, which lies not before the ring's; ``upto``: how far events have been
        released. What was read from the journal may lie beyond that, and comes later."""
        end = bisect_right(self._items, upto, key=_pos)
        return cut(self._items if end == len(self._items) else self._items[:end], after=after, limit=limit, upto=upto)
