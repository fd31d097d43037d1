"""One subscription of one connection: fed from history as its outlet drains, then live, then from history again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from msgd.journal.interface import Gap, GapReason
from msgd.messages.cursors import FIRST, Cursor, parse_cursor
from msgd.messages.live import live_event
from msgd.messages.topics import is_pattern
from msgd.notifier.feed import Feed
from msgd.notifier.items import Item
from msgd.notifier.limits import BIND_S, PAGE_BYTES, PAGE_EVENTS, POLL_S
from msgd.notifier.subscription import Phase, Subscription
from msgd.work.outage import wait_out

_log = Logger()

SMALLEST: Final = 200
"""Bytes of an event beside its data, for estimates."""


class Outlet(Protocol):
    """Where a reader's events go: a connection with a bounded buffer."""

    def drained(self) -> Deferred[None]:
        """Fires when nothing waits for the socket (at once if so). Cancel it to stop waiting."""

    def show(self, subscription: str, items: Sequence[Item]) -> int:
        """Write the first of these that there is room for; how many that were."""

    def gap(self, subscription: str, gap: Gap) -> None:
        """Say that events are lost."""

    def broke(self, subscription: str) -> None:
        """The reader has met an unexpected error and shows no more: have the client connect anew."""


class Reader:
    """Feeds one subscription to one outlet. Conforms to :class:`~msgd.notifier.feed.Listener`."""

    def __init__(self, feed: Feed, pattern: str, outlet: Outlet, clock: Any) -> None:
        self.pattern = pattern
        self._feed = feed
        self._outlet = outlet
        self._clock = clock
        self._place: Subscription[Item] = Subscription(0)
        self._epoch = ""
        self._from: Cursor | None = None
        self._unsure = True  # of where to go on: the journal is to be asked, with self._from
        self._bound = False
        self._seq: int | None = None  # of the event shown last, where that is one topic
        self._limit = PAGE_EVENTS
        self._pumping = False
        self._pump: Deferred[None] | None = None
        self._held = False
        self._ended = False

    # -- life ---------------------------------------------------------------------------------------------------------

    async def begin(self, since: str | None) -> str:
        """Take a place: None from now on, ``"0"`` from the first kept, or a cursor to go on after. Returns the cursor
        of that place; nothing is shown before :meth:`go`. Raises InvalidCursor."""
        asked = None if since is None else parse_cursor(since)
        self._held = True
        self._feed.buckets.hold(self.pattern)
        if since is not None:
            self._from = asked
            return since
        await self._bound_within(BIND_S)
        floor = None if self._ended else self._feed.buckets.floor(self.pattern)
        if floor is None:
            # The broker may be away for long: the journal tells what "now" is, and is looked at until live events come.
            head = await self._feed.journal.head()
            self._epoch, pos = head.epoch, head.pos
        else:
            self._epoch, pos = self._feed.epoch, floor
            self._bound = True
            self._feed.add(self)
        self._unsure = False
        self._place = Subscription(pos, floor)
        return str(Cursor(self._epoch, pos))

    def go(self) -> None:
        """Show what there is, and what comes."""
        if self._pumping or self._ended or (self._place.live and not self._unsure):
            return
        self._pumping = True
        self._pump = Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """Show no more. Stopping twice is harmless; to be called whatever became of :meth:`begin`."""
        if self._ended:
            return
        self._ended = True
        if self._pump is not None:
            self._pump.cancel()
        self._feed.remove(self)
        if self._held:
            self._feed.buckets.let_go(self.pattern)

    # -- live ---------------------------------------------------------------------------------------------------------

    def offer(self, items: Sequence[Item]) -> None:
        """Live events."""
        if self._unsure:
            return
        before = self._place.pos
        self._show(self._place.offer(items), before)
        self.go()

    def show_transient(self, item: Item) -> None:
        """An event that is not kept: shown to who is live, or lost."""
        if self._place.live and not self._unsure:
            self._outlet.show(self.pattern, [item])

    def renewed(self) -> None:
        """The journal has another life, or has gone back."""
        if not self._unsure:
            self._from = Cursor(self._epoch, self._place.pos)
            self._unsure = True
            self.go()

    # -- history ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._unsure or not self._place.live:
                await self._outlet.drained()
                await self._read_on()
        except CancelledError:
            pass
        except Exception:
            _log.failure("a reader of {pattern} broke", pattern=self.pattern)
            self._outlet.broke(self.pattern)
        finally:
            self._pumping = False

    async def _read_on(self) -> None:
        if not self._bound:
            self._bind()
        if self._unsure:
            await self._find_place()
        self._place.drained()
        if self._place.live:
            return
        before = self._place.pos
        page = await self._feed.page(self.pattern, after=before, limit=self._limit)
        if self._unsure:
            return  # the page is of a life that is over
        items = [Item(self._epoch, live_event(one.event, one.seq, one.pos)) for one in page.events]
        self._measure(items)
        self._show(self._place.page(items, page.upto), before)
        if not items and not page.more and self._place.phase is Phase.PAGING:
            await self._bound_within(POLL_S)  # nothing tells us of what comes yet

    def _bind(self) -> None:
        """Be offered live events, if the feed can hear them."""
        floor = self._feed.buckets.floor(self.pattern)
        if floor is not None:
            self._bound = True
            self._feed.add(self)
            if not self._unsure:
                before = self._place.pos
                self._show(self._place.bound(floor), before)

    async def _bound_within(self, seconds: float) -> None:
        """Returns when live events can be heard, or the time is up."""
        settled = self._feed.buckets.settled(self.pattern)
        settled.addTimeout(seconds, self._clock)
        try:
            await settled
        except TimedOut:
            pass

    async def _find_place(self) -> None:
        """Ask the journal where to go on, and tell what is lost."""
        asked = self._from
        resume = await wait_out(self._clock, lambda: self._feed.journal.resume([self.pattern], asked))
        if self._feed.is_open:
            self._epoch = self._feed.epoch
        else:
            self._epoch = (await wait_out(self._clock, self._feed.journal.head)).epoch
        self._seq = None
        self._place.moved(resume.after, self._feed.buckets.floor(self.pattern) if self._bound else None)
        self._unsure = False
        for gap in resume.gaps:
            self._outlet.gap(self.pattern, gap)

    def _measure(self, items: Sequence[Item]) -> None:
        """Choose how many events to read next time, so that a page is about what a drained socket takes."""
        if items:
            size = sum(len(memoryview(item.event.data)) + SMALLEST for item in items) / len(items)
            self._limit = max(1, min(PAGE_EVENTS, int(PAGE_BYTES / size)))

    # -- out ----------------------------------------------------------------------------------------------------------

    def _show(self, items: Sequence[Item], before: int) -> None:
        """Write ``items``; ``before``: the place in front of them, from which what finds no room is read again."""
        if not items:
            return
        self._check_seq(items, before)
        taken = self._outlet.show(self.pattern, items)
        if taken < len(items):
            self._place.full(items[taken - 1].pos if taken else before)
        if taken:
            self._seq = None if is_pattern(self.pattern) else items[taken - 1].event.seq

    def _check_seq(self, items: Sequence[Item], before: int) -> None:
        """Events of one topic count without a hole; one means that history was trimmed before it was read."""
        seq = items[0].event.seq
        if self._seq is not None and seq is not None and seq > self._seq + 1:
            lost = seq - self._seq - 1
            requested = str(Cursor(self._epoch, before)) if before else FIRST
            self._outlet.gap(self.pattern, Gap(self.pattern, requested, seq, lost, GapReason.TRIMMED))
            self._seq = seq - 1  # it has been said, should this event find no room
