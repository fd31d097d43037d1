"""Live messages put in order, and what is missing among them (DESIGN §3, "Live form").

The recorder sends, per batch, one message for each bucket touched and then a head that counts them. Events are held
until their head has come: then they are complete and in pos order over all buckets, or the journal is asked for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from msgspec import Struct

from msgd.messages.live import Head, LiveBatch, LiveEvent
from msgd.messages.topics import bucket
from msgd.notifier.limits import HELD_EVENTS


class Release(Struct, frozen=True):
    """These may be shown, in this order: nothing before them is missing."""

    events: Sequence[LiveEvent]


class Fill(Struct, frozen=True):
    """Something is missing: read from the journal what lies between, and give it to :meth:`Line.filled`."""


class Renewed(Struct, frozen=True):
    """The journal lives another life, or has gone back: every reader must ask it again where it stands."""


Step = Union[Release, Fill, Renewed, None]


class Line:
    """The one order of live events, as far as it is whole. Pure: messages in, steps out."""

    def __init__(self) -> None:
        self.epoch = ""
        self.last = 0  # everything up to here, of the buckets bound, has been released
        self._target: int | None = None  # while filling: how far
        self._held: dict[int, dict[int, LiveEvent]] = {}
        self._size = 0
        self._whole_after: dict[int, int] = {}

    @property
    def filling(self) -> bool:
        return self._target is not None

    @property
    def target(self) -> int:
        """How far events have been released, or will have been once the filling is done. What a new reader has not
        read up to here, it cannot count on being shown."""
        return self.last if self._target is None else self._target

    def begin(self, epoch: str, pos: int) -> None:
        """Start over: all up to ``pos`` is old."""
        self.epoch = epoch
        self.last = pos
        self._target = None
        self._drop_held()

    # -- buckets ------------------------------------------------------------------------------------------------------

    def settle(self, number: int, pos: int) -> None:
        """The bucket is bound: what is recorded after ``pos`` will come."""
        self._whole_after[number] = pos

    def is_settled(self, number: int) -> bool:
        return number in self._whole_after

    def floor(self, numbers: Sequence[int]) -> int:
        """From where on a new reader of these (settled) buckets is shown everything."""
        return max([self.target, *(self._whole_after[number] for number in numbers)])

    def forget(self, number: int) -> None:
        """The bucket is not bound any more."""
        self._whole_after.pop(number, None)
        self._size -= len(self._held.pop(number, ()))

    # -- messages -----------------------------------------------------------------------------------------------------

    def heard(self, batch: LiveBatch) -> Sequence[LiveEvent]:
        """Hold the recorded events of a bucket's message; returns its transient ones, to be shown at once."""
        transient = []
        for event in batch.events:
            if event.pos is None:
                transient.append(event)
            elif batch.epoch == self.epoch:
                # Also those already released: a takeover sends them again, and its head counts them.
                held = self._held.setdefault(bucket(event.topic), {})
                self._size += event.pos not in held
                held[event.pos] = event
        if self._size > HELD_EVENTS:
            self._drop_held()  # the head will find them missing
        return transient

    def head(self, head: Head) -> Step:
        """A batch is complete, or the recorder is idle."""
        if head.epoch != self.epoch:
            self.begin(head.epoch, head.last)
            return Renewed()
        if head.last <= self.last:
            self._let_go()
            # An idle head behind us: the journal may have been set back. Readers find out by asking it.
            if head.first > head.last and head.last < self.last and not self.filling:
                self.begin(head.epoch, head.last)
                return Renewed()
            return None
        if self._target is not None:
            self._target = max(self._target, head.last)
            return None
        if head.first > self.last + 1 or not self._whole(head):
            self._target = head.last
            return Fill()
        return self._release(head.last)

    def known(self, pos: int) -> Step:
        """The journal has come to ``pos``, by another way than a head."""
        if pos <= self.target:
            return None
        filling = self.filling
        self._target = pos
        return None if filling else Fill()

    def filled(self, events: Sequence[LiveEvent], upto: int) -> Release:
        """A page of the journal, everything up to ``upto``; more is needed while ``filling``."""
        fresh = [event for event in events if event.pos is not None and event.pos > self.last]
        self.last = max(self.last, upto)
        if self._target is not None and self.last >= self._target:
            self._target = None
        self._let_go()
        return Release(fresh)

    def _whole(self, head: Head) -> bool:
        for number, count in head.counts.items():
            whole_after = self._whole_after.get(number)
            if whole_after is None or head.last <= whole_after:
                continue
            held = self._held.get(number, {})
            if sum(head.first <= pos <= head.last for pos in held) < count:
                return False
        return True

    def _release(self, upto: int) -> Release:
        found = [event for held in self._held.values() for pos, event in held.items() if self.last < pos <= upto]
        found.sort(key=_pos)
        self.last = upto
        self._let_go()
        return Release(found)

    def _let_go(self) -> None:
        """Forget what has been released."""
        for number, held in list(self._held.items()):
            for pos in [pos for pos in held if pos <= self.last]:
                del held[pos]
                self._size -= 1
            if not held:
                del self._held[number]

    def _drop_held(self) -> None:
        self._held.clear()
        self._size = 0


def _pos(event: LiveEvent) -> int:
    assert event.pos is not None
    return event.pos
