"""The feed: what all readers of this process share. It hears the live messages once, keeps them whole, and offers each
event to the readers whose subscription names it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from msgd.broker import topology
from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.journal.interface import Journal, Page
from msgd.messages.live import LiveEvent, decode_batch, decode_head, live_event
from msgd.messages.topics import is_pattern, matches
from msgd.notifier.buckets import Buckets
from msgd.notifier.items import Item
from msgd.notifier.latest import Latest
from msgd.notifier.limits import FILL_PATTERNS, PAGE_EVENTS, PAGE_READS
from msgd.notifier.line import Fill, Line, Release, Renewed, Step
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

_log = Logger()


class Listener(Protocol):
    """Someone to whom live events are offered."""

    @property
    def pattern(self) -> str: ...

    def offer(self, items: Sequence[Item]) -> None:
        """Recorded events that match, in order."""

    def show_transient(self, item: Item) -> None: ...

    def renewed(self) -> None:
        """The journal has another epoch, or has gone back: ask it where to go on."""


class Feed:
    """Live events, in order and whole, to every listener."""

    def __init__(self, broker: Broker, journal: Journal, clock: Any) -> None:
        self.journal = journal
        self._broker = broker
        self._clock = clock
        self._line = Line()
        self.buckets = Buckets(self._line, journal, clock)
        self._latest = Latest()
        self._queue: ReplyQueue | None = None
        self._topics: dict[str, dict[Listener, None]] = {}
        self._patterns: dict[str, dict[Listener, None]] = {}
        self._reads = DeferredSemaphore(PAGE_READS)
        self._is_filling = False
        self._tasks = Tasks("the feed")

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen; returns at once, and waits for the broker by itself."""
        self._tasks.begin(self._open())
        self.buckets.start()

    async def stop(self) -> None:
        """Listen no more. Stopping twice, or before the start, is harmless."""
        self.buckets.stop()
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

    # -- listeners ----------------------------------------------------------------------------------------------------

    def add(self, listener: Listener) -> None:
        """Offer it events from now on."""
        self._group(listener).setdefault(listener.pattern, {})[listener] = None

    def remove(self, listener: Listener) -> None:
        """Offer it no more; harmless if it was never added."""
        group = self._group(listener)
        listeners = group.get(listener.pattern, {})
        listeners.pop(listener, None)
        if not listeners:
            group.pop(listener.pattern, None)

    def _group(self, listener: Listener) -> dict[str, dict[Listener, None]]:
        return self._patterns if is_pattern(listener.pattern) else self._topics

    # -- history ------------------------------------------------------------------------------------------------------

    async def page(self, pattern: str, *, after: int, limit: int) -> Page:
        """A page of history; few are read at once. Waits out an outage of the database."""
        return await self._reads.run(
            lambda: Deferred.fromCoroutine(
                wait_out(self._clock, lambda: self.journal.read([pattern], after=after, limit=limit))
            )
        )

    # -- live ---------------------------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        if self._queue is None:
            return  # nobody can count on what comes before the line has begun
        body = delivery.message.body
        try:
            if delivery.key == topology.HEAD_KEY:
                self._take(self._line.head(decode_head(body)))
            else:
                for event in self._line.heard(decode_batch(body)):
                    if self._latest.accepts(event):
                        self._show_transient(event)
        except msgspec.DecodeError as error:
            _log.warn("a live message under {key} is not one of ours: {error}", key=delivery.key, error=error)

    def _lost(self) -> None:
        if self._queue is not None:
            self._tasks.begin(self._look())

    async def _look(self) -> None:
        """Live messages may have been missed: how far is the journal?"""
        head = await wait_out(self._clock, self.journal.head)
        if head.epoch != self._line.epoch:
            self._line.begin(head.epoch, head.pos)
            self._take(Renewed())
        else:
            self._take(self._line.known(head.pos))

    def _take(self, step: Step) -> None:
        if isinstance(step, Release):
            self._show(step.events)
        elif isinstance(step, Fill):
            self._tasks.begin(self._fill())
        elif isinstance(step, Renewed):
            for listener in self._listeners():
                listener.renewed()

    async def _fill(self) -> None:
        """Read what live messages did not bring, and show it to all who listen."""
        if self._is_filling:
            return
        self._is_filling = True
        try:
            while self._line.filling:
                epoch, upto, page = await wait_out(self._clock, self._missed)
                if epoch == self.epoch:  # else readers have been told to ask by themselves
                    events = [live_event(one.event, one.seq, one.pos) for one in page.events]
                    self._show(self._line.filled(events, page.upto if page.more else upto).events)
        finally:
            self._is_filling = False

    async def _missed(self) -> tuple[str, int, Page]:
        epoch, upto = self.epoch, self._line.target
        patterns = [*self._topics, *self._patterns]
        if not patterns:
            return epoch, upto, Page([], upto, more=False)
        if len(patterns) > FILL_PATTERNS:
            patterns = ["#"]
        return epoch, upto, await self.journal.read(patterns, after=self._line.last, limit=PAGE_EVENTS, upto=upto)

    # -- to the listeners ---------------------------------------------------------------------------------------------

    def _listeners(self) -> list[Listener]:
        return [one for group in (self._topics, self._patterns) for some in group.values() for one in some]

    def _names(self, topic: str) -> Iterable[Listener]:
        yield from self._topics.get(topic, ())
        for pattern, listeners in self._patterns.items():
            if matches(pattern, topic):
                yield from listeners

    def _show(self, events: Sequence[LiveEvent]) -> None:
        offers: dict[Listener, list[Item]] = {}
        for event in events:
            self._latest.recorded(event)
            item = None
            for listener in self._names(event.topic):
                item = item or Item(self.epoch, event)
                offers.setdefault(listener, []).append(item)
        for listener, items in offers.items():
            try:
                listener.offer(items)
            except Exception:
                _log.failure("a reader of {pattern} could not be served", pattern=listener.pattern)

    def _show_transient(self, event: LiveEvent) -> None:
        item = Item(self.epoch, event)
        for listener in list(self._names(event.topic)):
            try:
                listener.show_transient(item)
            except Exception:
                _log.failure("a reader of {pattern} could not be served", pattern=listener.pattern)
