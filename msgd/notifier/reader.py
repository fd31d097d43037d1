"""One subscription of one connection: fed from history as its outlet drains, then live, then from history again.

It names one topic, a pattern, or several of both, under one cursor. Its outlet knows it by its *label*: the topic or
pattern if that is one, "" if they are several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from msgd.journal.interface import Gap, GapReason
from msgd.messages.cursors import FIRST, Cursor, parse_cursor
from msgd.messages.topics import is_pattern
from msgd.notifier.feed import Feed
from msgd.notifier.gaps import first_kept, missing
from msgd.notifier.items import Item, Stretch
from msgd.notifier.limits import BIND_S, PAGE_BYTES, PAGE_EVENTS, POLL_S
from msgd.notifier.ring import Reading
from msgd.notifier.squads import Squad
from msgd.notifier.subscription import Subscription

_log = Logger()

SMALLEST: Final = 200
"""Bytes of an event beside its data, for estimates."""


class Outlet(Protocol):
    """Where a reader's events go: a connection with a bounded buffer."""

    def drained(self) -> Deferred[None]:
        """Fires when nothing waits for the socket (at once if so). Cancel it to stop waiting."""

    def show(self, label: str, items: Sequence[Item]) -> int:
        """Write the first of these that there is room for; how many that were. Mostly they are a
        :class:`~msgd.notifier.items.Stretch`, shared with the other readers of the label."""

    def straight(self) -> int:
        """See :class:`~msgd.notifier.squads.Straight`; an outlet that is no socket of its own always says -1."""

    def sent(self, data: bytes, taken: int) -> None: ...

    def gap(self, label: str, gap: Gap, cursor: str = "") -> None:
        """Say that events are lost. Who goes on from ``cursor`` is not told of it again; "" if its place is known only
        once more has been said."""

    def broke(self, label: str) -> None:
        """The reader has met an unexpected error and shows no more: have the client connect anew."""


class Reader:
    """Feeds one subscription to one outlet. Conforms to :class:`~msgd.notifier.showing.Listener`."""

    def __init__(
        self,
        feed: Feed,
        patterns: Sequence[str],
        outlet: Outlet,
        clock: Any,
        *,
        sees: Callable[[str], bool] | None = None,
        caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        """``sees``: whether the events of a topic may be shown that a wildcard lets in; those of others are passed
        over, and the cursor goes on. It is not asked about topics that are named in full; None: all may be shown.
        ``caught_up`` is called whenever history has been read to its end."""
        self.patterns = tuple(dict.fromkeys(patterns))
        self.label = self.patterns[0] if len(self.patterns) == 1 else ""
        self._one_topic = self.label != "" and not is_pattern(self.label)
        self._sees = None if self._one_topic else sees
        self._shows_all = self._sees is None
        self._caught_up = caught_up
        self._feed = feed
        self._outlet = outlet
        self._clock = clock
        self._place: Subscription[Item] = Subscription(0)
        self._epoch = ""
        self._from: Cursor | None = None
        self._unsure = True  # of where to go on: the journal is to be asked, with self._from
        self._renewed = False  # since it was asked
        self._bound = False
        self._seq: int | None = None  # of the event shown last, where that is one topic
        self._told: dict[str, int] = {}  # of topics with gaps: what lies before this seq was shown, or told to be lost
        self._limit = PAGE_EVENTS
        self._pumping = False
        self._pump: Deferred[None] | None = None
        self._held = False
        self._ended = False
        self.squad: Squad[Reader] | None = None  # which then knows better where this one stands

    # -- life ---------------------------------------------------------------------------------------------------------

    async def begin(self, since: str | None) -> str:
        """Take a place: None from now on, ``"0"`` from the first kept, or a cursor to go on after. Returns the cursor
        of that place; nothing is shown before :meth:`go`. Raises InvalidCursor."""
        asked = None if since is None else parse_cursor(since)
        self._held = True
        for pattern in self.patterns:
            self._feed.buckets.hold(pattern)
        if since is not None:
            self._from = asked
            return since
        await self._bound_within(BIND_S)
        floor = None if self._ended else self._feed.buckets.floor(*self.patterns)
        if floor is None:
            # The broker may be away for long: the journal tells what "now" is, and is looked at until live events come.
            head = await self._feed.journal.head()
            self._epoch, pos = head.epoch, head.pos
        else:
            self._epoch, pos = self._feed.epoch, floor
        self._unsure = False
        self._place = Subscription(pos)
        return str(Cursor(self._epoch, pos))

    def go(self) -> None:
        """Show what there is, and what comes."""
        if self._pumping or self._ended:
            return
        if not self._bound and not self._unsure:
            self._bind()
        if not self.live and not self._pumping:
            self._pumping = True
            self._pump = Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """Show no more. Stopping twice is harmless; to be called whatever became of :meth:`begin`."""
        if self._ended:
            return
        self._ended = True
        self.leave()
        if self._pump is not None:
            self._pump.cancel()
        self._feed.remove(self)
        if self._held:
            for pattern in self.patterns:
                self._feed.buckets.let_go(pattern)

    @property
    def cursor(self) -> str:
        """The place up to which everything has been shown; "" while the journal has not said where that is."""
        if self._unsure:
            return ""
        pos = self._place.pos if self.squad is None else self.squad.pos
        if self._place.live:
            pos = max(pos, self._feed.released)
        return str(Cursor(self._epoch, pos))

    @property
    def live(self) -> bool:
        """Whether all there is has been shown."""
        return self._place.live and not self._unsure

    # -- live ---------------------------------------------------------------------------------------------------------

    def offer(self, items: Stretch) -> Outlet | None:
        """Live events."""
        if self._unsure:
            return None
        place = self._place
        before = place.pos
        follows = self._shows_all and (self._seq is None or self._seq + 1 == items.first_seq)
        if follows and place.follow(items.first, items.last):
            self._write(items, before)  # as mostly: the short way, which thousands go at once
            if self._one_topic and place.live and self._outlet.straight() >= 0:
                return self._outlet
        else:
            fresh = place.offer(items)
            if fresh:
                self._show(fresh, before)
        if not place.live:
            self.go()
        return None

    def stands(self, pos: int, seq: int) -> None:
        self._place.pos = pos
        self._seq = seq

    def broke(self) -> None:
        self._outlet.broke(self.label)

    def leave(self) -> None:
        """Be offered events by itself: nothing is to be sent straight to its outlet any more."""
        if self.squad is not None:
            self.squad.leave(self)

    def show_transient(self, items: Stretch) -> None:
        """Events that are not kept: shown to who is live, or lost."""
        if self._place.live and not self._unsure and self._may_show(items[0].event.topic):
            self._outlet.show(self.label, items)

    def renewed(self) -> None:
        """The journal has another life, or has gone back."""
        self._renewed = True
        self.leave()
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
            self._caught_up()
        except CancelledError:
            pass
        except Exception:  # a mistake of ours: its client comes again with its cursor, where silence would lose events
            _log.failure("a reader of {patterns} broke", patterns=self.patterns)
            self._outlet.broke(self.label)
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
        page = await self._feed.history.page(self._epoch, self.patterns, after=before, limit=self._limit)
        # Events of one topic show by their seq what is missing between them, but not what is missing before the first.
        if (not self._one_topic or self._seq is None) and not self._unsure:
            await self._look_for_gaps(page, before)
        if self._unsure:
            return  # the page is of a life that is over
        self._measure(page.items)
        self._show(self._place.page(page.items, page.upto), before)
        if not page.items and not page.more and self._place.paging:
            await self._bound_within(POLL_S)  # nothing tells us of what comes yet

    def _bind(self) -> None:
        """Be offered live events, if the feed can hear them."""
        floor = self._feed.buckets.floor(*self.patterns)
        if floor is not None:
            self._bound = True
            self._feed.add(self)
            if self._epoch != self._feed.epoch:
                self.renewed()  # since the place was taken
            if not self._unsure:
                before = self._place.pos
                self._show(self._place.bound(floor), before)

    async def _bound_within(self, seconds: float) -> None:
        """Returns when live events can be heard, or the time is up."""
        settled = self._feed.buckets.settled(*self.patterns)
        settled.addTimeout(seconds, self._clock)
        try:
            await settled
        except TimedOut:
            pass

    async def _find_place(self) -> None:
        """Ask the journal where to go on, and tell what is lost."""
        self._renewed = False
        found = await self._feed.resuming.ask(self.patterns, self._from)
        if self._renewed:
            return  # what was found may be of the life before
        asked = self._from
        goes_on = asked is not None and (found.epoch, found.after) == (self._epoch, asked.pos)
        self._epoch = found.epoch
        if not goes_on:
            self._seq = None
        self._told = {gap.topic: gap.first for gap in found.gaps if gap.first is not None}
        self._place.moved(found.after, self._feed.buckets.floor(*self.patterns) if self._bound else None)
        self._unsure = False
        gaps = [self._from_what_was_shown(gap) for gap in found.gaps if self._may_tell(gap)]
        for gap in gaps:
            self._outlet.gap(self.label, gap, self.cursor if gap is gaps[-1] else "")

    def _from_what_was_shown(self, gap: Gap) -> Gap:
        """Of one topic a reader may have come further than what it was shown last, past events that had gone."""
        if self._seq is None or gap.first is None or gap.first <= self._seq + 1:
            return gap
        lost, self._seq = gap.first - self._seq - 1, gap.first - 1
        return structs.replace(gap, lost=lost)

    async def _look_for_gaps(self, page: Reading, before: int) -> None:
        """Tell what was deleted before it could be read: of several topics the events alone do not show it."""
        found = await self._feed.resuming.ask(self.patterns, Cursor(self._epoch, before))
        if self._unsure:
            return
        if found.epoch != self._epoch or found.after != before:
            self._from = Cursor(self._epoch, before)
            self._unsure = True
            return
        told, self._told = self._told, {}
        for gap in found.gaps:
            first = first_kept(gap, page.items)
            missed = missing(gap, first, told.get(gap.topic))
            if missed is not None and self._may_tell(gap):
                self._outlet.gap(self.label, missed)
            if first is not None:
                self._told[gap.topic] = first

    def _measure(self, items: Stretch) -> None:
        """Choose how many events to read next time, so that a page is about what a drained socket takes; in steps, so
        that readers of the same ask for the same."""
        if items:
            size = items.size / len(items) + SMALLEST
            self._limit = PAGE_EVENTS
            while self._limit > 1 and self._limit * size > PAGE_BYTES:
                self._limit //= 2

    # -- out ----------------------------------------------------------------------------------------------------------

    def _show(self, items: Sequence[Item], before: int) -> None:
        """Write ``items``; ``before``: the place in front of them, from which what finds no room is read again."""
        if self._sees is not None:
            items = [item for item in items if self._may_show(item.event.topic)]
        if not items:
            return
        self._check_seq(items, before)
        self._write(items, before)

    def _write(self, items: Sequence[Item], before: int) -> None:
        taken = self._outlet.show(self.label, items)
        if taken < len(items):
            self._place.full(items[taken - 1].pos if taken else before)
        if taken and self._one_topic:
            self._seq = items[taken - 1].event.seq

    def _may_show(self, topic: str) -> bool:
        return self._sees is None or topic in self.patterns or self._sees(topic)

    def _may_tell(self, gap: Gap) -> bool:
        return is_pattern(gap.topic) or self._may_show(gap.topic)

    def _check_seq(self, items: Sequence[Item], before: int) -> None:
        """Events of one topic count without a hole; one means that history was trimmed before it was read."""
        seq = items[0].event.seq
        if self._seq is not None and seq is not None and seq > self._seq + 1:
            lost = seq - self._seq - 1
            requested = str(Cursor(self._epoch, before)) if before else FIRST
            self._outlet.gap(self.label, Gap(self.label, requested, seq, lost, GapReason.TRIMMED))
            self._seq = seq - 1  # it has been said, should this event find no room
