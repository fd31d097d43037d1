"""The feed: what all readers of this process share. It hears the live messages once, keeps them whole, and offers each
event to the readers whose subscription names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any

import msgspec
from twisted.logger import Logger

from msgd.broker import topology
from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.journal.interface import Gap, Journal, Page
from msgd.messages.cursors import Cursor
from msgd.messages.live import LiveEvent, decode_batch, decode_head, live_event
from msgd.messages.topics import is_pattern
from msgd.notifier.audience import Audience, Group
from msgd.notifier.buckets import Buckets
from msgd.notifier.direct import Cork
from msgd.notifier.history import History
from msgd.notifier.items import Item
from msgd.notifier.latest import Latest
from msgd.notifier.limits import FILL_PATTERNS, PAGE_EVENTS
from msgd.notifier.line import Ask, Fill, Line, Release, Renewed, Step
from msgd.notifier.recent import Recent
from msgd.notifier.resuming import Resuming
from msgd.notifier.showing import Listener, Showing
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

_log = Logger()


class Feed:
    """Live events, in order and whole, to every listener."""

    def __init__(self, broker: Broker, journal: Journal, clock: Any, waiting: Callable[[], Set[int]]) -> None:
        """``waiting`` tells to which descriptors something is still to be written."""
        self.journal = journal
        self._broker = broker
        self._clock = clock
        self._line = Line()
        self.buckets = Buckets(self._line, journal, clock)
        self._latest = Latest()
        self._queue: ReplyQueue | None = None
        self._audience: Audience[Listener] = Audience()
        self._recent = Recent(self._line)
        self.history = History(journal, self._line, self._recent, clock)
        self.resuming = Resuming(journal, clock, gone=self.history.gone)
        self.cork = Cork()
        self._showing = Showing(self.cork, clock, waiting)
        self._is_filling = False
        self._is_looking = False
        self._is_in_doubt = False  # about how far the journal is
        self._tasks = Tasks("the feed")

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen; returns at once, and waits for the broker by itself."""
        self._tasks.begin(self._open())
        self.buckets.start()

    async def stop(self) -> None:
        """Listen no more. Stopping twice, or before the start, is harmless."""
        self.buckets.stop()
        self.history.stop()
        self.resuming.stop()
        self._showing.forget()
        self._tasks.cancel()
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.close()

    @property
    def is_open(self) -> bool:
        """Whether live messages are heard (or would be, while the broker is away for a moment)."""
        return self._queue is not None

    @property
    def epoch(self) -> str:
        return self._line.epoch

    @property
    def released(self) -> int:
        """Everything up to this pos has been offered to those who listen."""
        return self._showing.offered(self._line.last)

    async def _open(self) -> None:
        queue = await wait_out(
            self._clock,
            lambda: self._broker.reply_queue(
                self._delivered, bindings=[(topology.LIVE, topology.HEAD_KEY)], lost=self._lost
            ),
        )
        head = await wait_out(self._clock, self.journal.head)
        self._line.begin(head.epoch, head.pos)
        self._queue = queue
        self.buckets.attach(queue)

    @property
    def listened(self) -> list[str]:
        """The topics and patterns that somebody listens to."""
        return self._audience.patterns

    # -- listeners ----------------------------------------------------------------------------------------------------

    def add(self, listener: Listener) -> None:
        """Offer it events from now on."""
        self._audience.add(listener)
        if len(listener.patterns) == 1 and not is_pattern(listener.patterns[0]):
            self._recent.open(listener.patterns[0])

    def remove(self, listener: Listener) -> None:
        """Offer it no more; harmless if it was never added."""
        self._audience.remove(listener)

    def erased(self, topic: str) -> None:
        """All events of ``topic`` have been deleted."""
        self.history.gone(topic)

    # -- live ---------------------------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        if self._queue is None:
            return  # nobody can count on what comes before the line has begun
        body = delivery.message.body
        try:
            if delivery.key == topology.HEAD_KEY:
                self._take(self._line.head(decode_head(body)))
            else:
                transient = self._line.heard(decode_batch(body))
                self._show_transient([event for event in transient if self._latest.accepts(event)])
        except msgspec.DecodeError as error:
            _log.warn("a live message under {key} is not one of ours: {error}", key=delivery.key, error=error)

    def _lost(self) -> None:
        if self._queue is not None:
            self._look()

    def _look(self) -> None:
        """See how far the journal is."""
        self._is_in_doubt = True
        if not self._is_looking:
            self._tasks.begin(self._keep_looking())

    async def _keep_looking(self) -> None:
        """One question after the other: who was in doubt while one was under way needs another."""
        self._is_looking = True
        try:
            while self._is_in_doubt:
                self._is_in_doubt = False
                await self._ask()
        finally:
            self._is_looking = False

    async def _ask(self) -> int:
        """Ask the journal how far it is."""
        mark = self._line.mark
        head = await wait_out(self._clock, self.journal.head)
        self._take(self._line.stands(head.epoch, head.pos, mark))
        return head.pos

    def _take(self, step: Step) -> None:
        if isinstance(step, Release):
            self._show(step.events)
        elif isinstance(step, Fill):
            self._tasks.begin(self._fill())
        elif isinstance(step, Ask):
            self._look()
        elif isinstance(step, Renewed):
            self.history.renew()
            self._showing.forget()
            for listener in self._audience:
                listener.renewed()

    async def _fill(self) -> None:
        """Read what live messages did not bring, and show it to all who listen."""
        if self._is_filling:
            return
        self._is_filling = True
        try:
            while self._line.filling:
                # Nothing but the journal says how far it is: a wrong head would have us skip what is yet to come.
                pos = await self._ask()
                epoch, upto, page, gaps = await wait_out(self._clock, partial(self._missed, pos))
                if epoch == self.epoch:  # else readers have been told to ask by themselves
                    self._have_asked(gaps)
                    events = [live_event(one.event, one.seq, one.pos) for one in page.events]
                    self._show(self._line.filled(events, page.upto if page.more else upto).events)
        finally:
            self._is_filling = False

    def _have_asked(self, gaps: Sequence[Gap]) -> None:
        """Have those readers ask where to go on whose events were deleted before they could be filled in."""
        for group in dict.fromkeys(group for gap in gaps for group in self._audience.of(gap.topic)):
            for listener in list(group.listeners):
                listener.renewed()

    async def _missed(self, most: int) -> tuple[str, int, Page, Sequence[Gap]]:
        """What lies between what was released and the target, ``most`` at most."""
        epoch, upto, after = self.epoch, min(self._line.target, most), self._line.last
        patterns = list(dict.fromkeys([*self._audience.patterns, *self._recent.topics]))
        if not patterns:
            return epoch, upto, Page([], upto, more=False), ()
        if len(patterns) > FILL_PATTERNS:
            patterns = ["#"]
        page = await self.journal.read(patterns, after=after, limit=PAGE_EVENTS, upto=upto)
        # Asked afterwards: what was deleted before the page was read is then among it.
        return epoch, upto, page, (await self.journal.resume(patterns, Cursor(epoch, after))).gaps

    # -- to the listeners ---------------------------------------------------------------------------------------------

    def _show(self, events: Sequence[LiveEvent]) -> None:
        """Have released events offered: the same to all listeners of one group."""
        topics: dict[str, list[Item]] = {}
        offers: dict[Group[Listener], list[Item]] = {}
        for event in events:
            self._latest.recorded(event)
            item = Item(self.epoch, event)
            topics.setdefault(event.topic, []).append(item)
            for group in self._audience.of(event.topic):
                offers.setdefault(group, []).append(item)
        # First all of them: a reader may turn to what is remembered while others are still being served.
        for topic, items in topics.items():
            self._recent.add(topic, items)
        if offers:
            self._showing.recorded(offers, after=(events[0].pos or 0) - 1)

    def _show_transient(self, events: Sequence[LiveEvent]) -> None:
        for event in events:
            items = [Item(self.epoch, event)]
            self._showing.transient({group: list(items) for group in self._audience.of(event.topic)})
