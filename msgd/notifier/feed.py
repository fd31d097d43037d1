"""The feed: what all readers of this process share. It hears the live messages once, keeps them whole, and offers each
event to the readers whose subscription names it."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    DeferredSemaphore,
    FirstError,
    gatherResults,
    succeed,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker import topology
from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.errors import BrokerUnavailable, Unavailable
from msgd.journal.interface import Journal, Page
from msgd.messages.live import LiveEvent, decode_batch, decode_head, live_event
from msgd.messages.topics import BUCKETS, bucket, is_pattern, matches
from msgd.notifier.items import Item
from msgd.notifier.latest import Latest
from msgd.notifier.limits import FILL_PATTERNS, LINGER_S, PAGE_EVENTS, PAGE_READS
from msgd.notifier.line import Fill, Line, Release, Renewed, Step
from msgd.work.outage import wait_out

_log = Logger()

ALL: Final = tuple(range(BUCKETS))


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
        self._latest = Latest()
        self._queue: ReplyQueue | None = None
        self._topics: dict[str, dict[Listener, None]] = {}
        self._patterns: dict[str, dict[Listener, None]] = {}
        self._users: dict[int, int] = {}  # of each bucket
        self._idle_since_s: dict[int, float] = {}
        self._binding = DeferredLock()
        self._is_binding = False
        self._settling: dict[Deferred[None], str] = {}
        self._reads = DeferredSemaphore(PAGE_READS)
        self._is_filling = False
        self._tasks: set[Deferred[None]] = set()
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen; returns at once, and waits for the broker by itself."""
        self._spawn(self._open())
        self._sweeping.start(LINGER_S, now=False).addErrback(_unexpected)

    async def stop(self) -> None:
        """Listen no more. Stopping twice, or before the start, is harmless."""
        if self._sweeping.running:
            self._sweeping.stop()
        for waiting in list(self._settling):
            waiting.cancel()
        for task in list(self._tasks):
            task.cancel()
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

    def _spawn(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        task = Deferred.fromCoroutine(coroutine)
        self._tasks.add(task)
        task.addErrback(_unexpected)
        task.addCallback(lambda _: self._tasks.discard(task))

    # -- listeners ----------------------------------------------------------------------------------------------------

    def hold(self, pattern: str) -> None:
        """Have the buckets of a topic or pattern bound until :meth:`let_go`; see :meth:`settled`."""
        for number in _buckets(pattern):
            self._users[number] = self._users.get(number, 0) + 1
            self._idle_since_s.pop(number, None)
        if self.floor(pattern) is None and not self._is_binding:
            self._spawn(self._bind())

    def settled(self, pattern: str) -> Deferred[None]:
        """Fires when the buckets of a pattern that is held are bound: when :meth:`floor` is known. Cancel it to stop
        waiting; without a broker it may be long."""
        if self.floor(pattern) is not None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._settling.__delitem__)
        self._settling[waiting] = pattern
        return waiting

    async def _bind(self) -> None:
        """Bind what is held, until all of it is."""
        self._is_binding = True
        try:
            while missing := [number for number in self._users if not self._line.is_settled(number)]:
                await wait_out(self._clock, partial(self._bind_these, missing))
                for waiting, pattern in list(self._settling.items()):
                    if waiting in self._settling and self.floor(pattern) is not None:
                        del self._settling[waiting]
                        waiting.callback(None)
        finally:
            self._is_binding = False

    async def _bind_these(self, numbers: Sequence[int]) -> None:
        await self._binding.acquire()
        try:
            if self._queue is None:
                raise BrokerUnavailable("live messages cannot be heard yet")
            bound = [
                Deferred.fromCoroutine(self._queue.bind(topology.LIVE, str(number)))
                for number in numbers
                if not self._line.is_settled(number)
            ]
            await gatherResults(bound, consumeErrors=True).addErrback(_first_error)
            head = await self.journal.head()
            for number in numbers:
                if not self._line.is_settled(number):
                    self._line.settle(number, head.pos)
        finally:
            self._binding.release()

    def floor(self, pattern: str) -> int | None:
        """From where on a listener that is added now is offered everything; None while its buckets are not bound."""
        numbers = _buckets(pattern)
        if not all(self._line.is_settled(number) for number in numbers):
            return None
        return self._line.floor(numbers)

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

    def let_go(self, pattern: str) -> None:
        """The counterpart of ``hold``."""
        for number in _buckets(pattern):
            self._users[number] -= 1
            if not self._users[number]:
                del self._users[number]
                self._idle_since_s[number] = self._clock.seconds()

    def _sweep(self) -> None:
        """Unbind what nobody has used for a while."""
        now_s = self._clock.seconds()
        idle = [number for number, since_s in self._idle_since_s.items() if now_s - since_s >= LINGER_S]
        if idle and self._queue is not None:
            self._spawn(self._unbind(idle))

    async def _unbind(self, numbers: Sequence[int]) -> None:
        await self._binding.acquire()
        try:
            for number in numbers:
                if number in self._users or self._queue is None:
                    continue
                self._idle_since_s.pop(number, None)
                self._line.forget(number)
                try:
                    await self._queue.unbind(topology.LIVE, str(number))
                except Unavailable:
                    pass  # it stays bound, and what comes is not counted
        finally:
            self._binding.release()

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
            self._spawn(self._look())

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
            self._spawn(self._fill())
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


def _buckets(pattern: str) -> Sequence[int]:
    return ALL if is_pattern(pattern) else (bucket(pattern),)


def _unexpected(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("the feed broke off", failure)


def _first_error(failure: Failure) -> Failure:
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure
