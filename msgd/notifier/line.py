"""Live messages put in order, and what is missing among them (DESIGN §3, "Live form").

The recorder sends, per batch, one message for each bucket touched and then a head that counts them. Events are held
until their head has come: then they are complete and in pos order over all buckets, or the journal is asked for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Union

from msgspec import Struct

from msgd.messages.live import Head, LiveBatch, LiveEvent
from msgd.messages.topics import bucket
from msgd.notifier.limits import HELD_EVENTS


class Release(Struct, frozen=True):
    """These may be shown, in this order: nothing before them is missing."""

    events: Sequence[LiveEvent]


class Fill(Struct, frozen=True):
    """Something is missing: read from the journal what lies between, and give it to :meth:`Line.filled`."""


class Ask(Struct, frozen=True):
    """This head is odd: ask the journal where it stands, and give that to :meth:`Line.stands`."""


class Renewed(Struct, frozen=True):
    """The journal lives another life, or has gone back: every reader must ask it again where it stands."""


Step = Union[Release, Fill, Ask, Renewed, None]


REMEMBERED: Final = 2000
"""Events of whose release we know one by one; nobody tells again what lies further back."""


class Mark(Struct, frozen=True):
    """Where the line was at some moment."""

    last: int
    target: int


class Line:
    """The one order of live events, as far as it is whole. Pure: messages in, steps out."""

    def __init__(self) -> None:
        self.epoch = ""
        self.last = 0  # everything up to here, of the buckets bound, has been released
        self._target: int | None = None  # while filling: how far
        self._held: dict[int, dict[int, LiveEvent]] = {}
        self._size = 0
        self._whole_after: dict[int, int] = {}
        # What has been released after the place up to which the journal, or time, vouches for that:
        self._released: dict[int, None] = {}
        self._sure_upto = 0

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
        self._be_sure(pos)
        self._whole_after = dict.fromkeys(self._whole_after, pos)  # they stay bound

    # -- buckets ------------------------------------------------------------------------------------------------------

    def settle(self, number: int, pos: int) -> None:
        """The bucket is bound: what is recorded after ``pos`` will come."""
        self._whole_after[number] = pos

    def is_settled(self, number: int) -> bool:
        return number in self._whole_after

    def settled_at(self, number: int) -> int | None:
        """What :meth:`settle` was told of the bucket; another value means that it was not bound in between."""
        return self._whole_after.get(number)

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
            return Ask()  # the journal may live another life
        if self._has_skipped(head):
            self.begin(head.epoch, min(head.last, self.last))
            return Renewed()
        if head.last <= self.last:
            self._let_go()
            # A takeover tells again what has been told; or the journal has been set back, or a head was wrong.
            return Ask() if head.last < self.last and not self.filling else None
        if self._target is not None:
            self._target = max(self._target, head.last)
            return None
        if head.first > self.last + 1 or not self._whole(head):
            self._target = head.last
            return Fill()
        return self._release(head.last)

    @property
    def mark(self) -> Mark:
        """To be taken before the journal is asked, for :meth:`stands`."""
        return Mark(self.last, self.target)

    def stands(self, epoch: str, pos: int, mark: Mark) -> Step:
        """The journal has come to ``pos``, or further: it was asked after ``mark`` was taken."""
        if epoch != self.epoch or pos < mark.last:
            self.begin(epoch, pos)
            return Renewed()
        filling = self.filling
        if pos < mark.target == self._target:
            self._target = pos if pos > self.last else None  # whoever told of more was wrong
        elif pos > self.target:
            self._target = pos
        return Fill() if self.filling and not filling else None

    def filled(self, events: Sequence[LiveEvent], upto: int) -> Release:
        """A page of the journal, everything up to ``upto``; more is needed while ``filling``."""
        fresh = [event for event in events if event.pos is not None and event.pos > self.last]
        self.last = max(self.last, upto)
        if self._target is not None and self.last >= self._target:
            self._target = None
        self._be_sure(self.last)
        self._let_go()
        return Release(fresh)

    def _whole(self, head: Head) -> bool:
        if sum(head.counts.values()) <= head.last - head.first:
            # A batch has every number; what is told again after a takeover may have been deleted meanwhile.
            return False
        if head.last - self.last > HELD_EVENTS:
            return False  # the journal will tell whether there is so much
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
        self._released.update(dict.fromkeys(map(_pos, found)))
        while len(self._released) > REMEMBERED:
            self._sure_upto = next(iter(self._released))
            del self._released[self._sure_upto]
        self._let_go()
        return Release(found)

    def _has_skipped(self, head: Head) -> bool:
        """Whether this head tells of events that lie behind us, but were never released: one before was wrong, and led
        us past them."""
        for number, held in self._held.items():
            known = max(self._sure_upto, self._whole_after.get(number, head.last))
            if any(known < pos <= min(head.last, self.last) and pos not in self._released for pos in held):
                return True
        goes_back = head.first <= min(head.last, self.last) > self._sure_upto
        return goes_back and not self._whole(head)

    def _be_sure(self, upto: int) -> None:
        self._sure_upto = upto
        self._released.clear()

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
