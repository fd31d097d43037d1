"""The newest events of topics in use, ready made: who comes back after a moment is served from memory.

A topic's ring begins where a new reader would be whole (:meth:`Line.floor`), grows with every release, and backwards by
what is read from the journal next to it. What was read further back is kept for a moment as a *segment*, for those who
read the same. Pure.

Two things make a ring untrue: its bucket was not bound for a while (its mark tells), or events were deleted
(:meth:`Recent.gone`; who begins to read asks the journal first, and so learns of it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from msgd.messages.topics import bucket
from msgd.notifier.items import Item
from msgd.notifier.line import Line
from msgd.notifier.ring import Reading, Ring, cut, size_of

RINGS_BYTES: Final = 32 * 1024 * 1024
"""All rings; beyond, the topic that was longest without an event or a reader loses its own."""

SEGMENTS_BYTES: Final = 2 * 1024 * 1024
"""All segments, of which the last is always kept: herds read the same long history side by side."""

CUTS: Final = 8
"""Readings that are remembered, with their frames joined: of one herd all ask for the same ones."""


class _Segment(Struct, frozen=True):
    """The events of a topic after ``after`` and up to ``upto``."""

    topic: str
    after: int
    upto: int
    more: bool
    items: Sequence[Item]
    size: int


class Recent:
    """All rings and segments of one life of the journal."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._rings: dict[str, Ring] = {}  # the least recently used first
        self._segments: list[_Segment] = []  # the oldest first
        self._cuts: dict[tuple[str, int, int], tuple[object, Reading]] = {}
        self._size = 0

    @property
    def topics(self) -> list[str]:
        """Those that have a ring: what live messages did not bring must be read for them too."""
        return [topic for topic in list(self._rings) if self._ring(topic) is not None]

    def holds(self, topic: str) -> bool:
        """Whether something might be shown from here that the journal has deleted."""
        return topic in self._rings or any(segment.topic == topic for segment in self._segments)

    # -- what comes ---------------------------------------------------------------------------------------------------

    def open(self, topic: str) -> None:
        """Keep what comes of ``topic`` from now on; nothing if its bucket is not bound."""
        number = bucket(topic)
        mark = self._line.settled_at(number)
        if mark is not None and self._ring(topic) is None:
            self._rings[topic] = Ring(self._line.floor([number]), mark)

    def add(self, topic: str, items: Sequence[Item]) -> None:
        """Events of ``topic`` that are being released, in order."""
        ring = self._ring(topic)
        if ring is not None:
            size = ring.size
            ring.extend(items)
            self._size += ring.size - size
            self._used(topic, ring)

    def read(self, topic: str, after: int, items: Sequence[Item], upto: int, *, more: bool) -> None:
        """These the journal holds between ``after`` and ``upto``."""
        ring = self._ring(topic)
        if ring is not None and ring.after <= after:
            return
        if ring is not None and ring.after <= upto:
            size = ring.size
            whole = ring.prepend(after, items)
            self._size += ring.size - size
            self._used(topic, ring)
            if whole:
                return
        self._segments.append(_Segment(topic, after, upto, more, items, size_of(items)))
        while len(self._segments) > 1 and sum(segment.size for segment in self._segments) > SEGMENTS_BYTES:
            del self._segments[0]

    # -- what goes ----------------------------------------------------------------------------------------------------

    def gone(self, topic: str, first: int) -> None:
        """Events of ``topic`` before seq ``first`` have been deleted."""
        self._segments = [segment for segment in self._segments if segment.topic != topic]
        ring = self._rings.get(topic)
        if ring is not None:
            size = ring.size
            ring.purge(first)
            self._size += ring.size - size
        self._forget_cuts(topic)

    def drop(self, topic: str) -> None:
        """Forget all of ``topic``."""
        self._segments = [segment for segment in self._segments if segment.topic != topic]
        ring = self._rings.pop(topic, None)
        if ring is not None:
            self._size -= ring.size
        self._forget_cuts(topic)

    def clear(self) -> None:
        """Forget everything: the journal lives another life, or has gone back."""
        self._rings.clear()
        self._segments.clear()
        self._cuts.clear()
        self._size = 0

    # -- what is wanted -----------------------------------------------------------------------------------------------

    def find(self, topic: str, after: int, limit: int) -> Reading | None:
        """The next events after ``after``, at most ``limit``; None if only the journal knows, or there are none yet."""
        ring = self._ring(topic)
        if ring is not None and ring.after <= after:
            if after >= self._line.last:
                return None
            self._used(topic, ring)
            key, state = (topic, after, limit), (ring, ring.version, self._line.last)
            return self._remembered(key, state) or self._remember(key, state, ring.cut(after, limit, self._line.last))
        for segment in reversed(self._segments):
            if segment.topic == topic and segment.after <= after < segment.upto:
                key = (topic, after, limit)
                return self._remembered(key, segment) or self._remember(
                    key,
                    segment,
                    cut(segment.items, after=after, limit=limit, upto=segment.upto, more=segment.more),
                )
        return None

    def _remembered(self, key: tuple[str, int, int], state: object) -> Reading | None:
        found = self._cuts.get(key)
        return found[1] if found is not None and found[0] == state else None

    def _remember(self, key: tuple[str, int, int], state: object, reading: Reading) -> Reading:
        """``state``: what it was cut from, as it was."""
        self._cuts.pop(key, None)
        self._cuts[key] = (state, reading)
        if len(self._cuts) > CUTS:
            del self._cuts[next(iter(self._cuts))]
        return reading

    def _forget_cuts(self, topic: str) -> None:
        for key in [key for key in self._cuts if key[0] == topic]:
            del self._cuts[key]

    # -- rings --------------------------------------------------------------------------------------------------------

    def _ring(self, topic: str) -> Ring | None:
        """A topic's ring, if it is true."""
        ring = self._rings.get(topic)
        if ring is not None and ring.mark != self._line.settled_at(bucket(topic)):
            self.drop(topic)
            return None
        return ring

    def _used(self, topic: str, ring: Ring) -> None:
        """It is the last to go when there are too many."""
        del self._rings[topic]
        self._rings[topic] = ring
        while self._size > RINGS_BYTES and len(self._rings) > 1:
            self.drop(next(iter(self._rings)))
