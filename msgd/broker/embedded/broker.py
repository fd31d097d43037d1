"""The embedded broker: routes, stores, hands out, all in the reactor's thread but for the writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger

from msgd.broker import topology
from msgd.broker.embedded import store
from msgd.broker.embedded.deliveries import EmbeddedConsumer
from msgd.broker.embedded.queues import DurableQueue, Entry
from msgd.broker.embedded.replies import EmbeddedReplies
from msgd.broker.embedded.routing import Router
from msgd.broker.embedded.writer import Writer
from msgd.broker.interface import Delivery, Observer
from msgd.database import Database
from msgd.database.threads import Threads, Worker
from msgd.errors import BrokerUnavailable, InvalidInput, MsgdError, NotFound, Unroutable
from msgd.messages.dead_letters import dead_letter
from msgd.messages.envelope import Message, to_bytes

_log = Logger()

TURN_DELIVERIES: Final = 200
"""Messages that one queue hands out before others, and the network, have their turn."""

KEY_BYTES: Final = 255
"""As in AMQP 0-9-1 (§4.2.5.3, short strings), so that what is accepted here is accepted by RabbitMQ too."""

REPLIES_PREFIX: Final = "reply."
"""Not ``msgd.``: a queue of that name is refused as ``reply_to``."""


class EmbeddedBroker:
    """The contract of ``msgd.broker.interface`` within one process, over the SQLite file ``path``."""

    def __init__(self, path: str | Path, *, reactor: Any, workers: Callable[[str, int], Worker] = Threads) -> None:
        """``reactor``: for time and for threads (IReactorTime, IReactorFromThreads); ``workers``: as of Database."""
        self._path = Path(path).absolute()
        self._reactor = reactor
        self._lock = store.Lock(self._path)
        self._database = Database(
            f"sqlite:///{self._path}", reactor=reactor, threads=1, prepare=store.prepare, workers=workers
        )
        self._writer = Writer(self._database, reactor, self)
        self._router: Router[DurableQueue | EmbeddedReplies] = Router(topology.EXCHANGES)
        self._queues: dict[str, DurableQueue] = {}
        self._replies: dict[str, EmbeddedReplies] = {}
        self._consumers: dict[EmbeddedConsumer, None] = {}
        self._observers: list[Observer] = []
        self._waiting: list[Deferred[None]] = []
        self._types: dict[str, None] = {}
        self._last_id = 0
        self._last_reply = 0
        self._connected = False
        self._stopped = False
        self._blocked = ""
        self._changing = DeferredLock()  # start and stop may be called while the other is under way
        self._turn: Any = None  # an IDelayedCall
        self._busy: dict[DurableQueue, None] = {}
        self._busy_replies: dict[EmbeddedReplies, None] = {}

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        return self._connected and not self._blocked

    @property
    def description(self) -> str:
        return f"embedded broker in {self._path} (SQLite {sqlite3.sqlite_version})"

    @property
    def trouble(self) -> str:
        """Never any: it is started, or its start has failed."""
        return ""

    async def start(self) -> None:
        """Open the file. Raises ConfigError if another process has it open, DatabaseUnavailable if it cannot be."""
        await self._changing.acquire()
        try:
            self._stopped = False
            if not self._connected:
                await self._start()
        finally:
            self._changing.release()

    async def stop(self) -> None:
        await self._changing.acquire()
        try:
            self._stopped = True
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.errback(_stopped())
            if self._connected:
                await self._stop()
        finally:
            self._changing.release()

    async def _start(self) -> None:
        self._lock.take()
        try:
            await self._database.start()
            shapes = [*topology.QUEUES, *(shape for type_ in self._types for shape in _job_shapes(type_))]
            needed = [shape.name for shape in shapes]
            kept, self._last_id = await self._database.write(partial(store.open_queues, needed=needed))
        except BaseException:  # also a cancelled start leaves no thread and no lock
            await self._database.stop()
            self._lock.release()
            raise
        self._writer = Writer(self._database, self._reactor, self)
        for queue in kept:
            self._add(queue.number, _shape(queue.name), queue.messages)
        self._connected = True
        for observer in self._observers:
            observer.connected()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    async def _stop(self) -> None:
        self._connected = False
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        for consumer in self._consumers:
            for entry in consumer.end():
                self._writer.came_back(entry.id)
        for replies in self._replies.values():
            replies.end()
        await self._writer.stop()
        try:
            await self._database.write(store.close_queues)
        except Exception:  # whatever it was, the file and its lock are let go
            _log.failure("the embedded broker could not end cleanly: messages will come marked as redelivered")
        await self._database.stop()
        self._lock.release()
        self._router = Router(topology.EXCHANGES)
        self._blocked = ""
        for state in (self._queues, self._replies, self._consumers, self._busy, self._busy_replies):
            state.clear()
        for observer in self._observers:
            observer.disconnected("stopped")

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)
        if self._connected:
            observer.connected()
        if self._blocked:
            observer.blocked(self._blocked)

    def ready(self) -> Deferred[None]:
        if self._connected:
            return succeed(None)
        if self._stopped:
            return fail(_stopped())
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    # -- publish ---------------------------------------------------------------------------------------------------

    def publish(self, exchange: str, key: str, message: Message, *, mandatory: bool = False) -> Deferred[None]:
        if not self._connected:
            return fail(BrokerUnavailable("the embedded broker is not started, or was stopped"))
        try:
            targets = self._route(exchange, key)
            if len(key.encode()) > KEY_BYTES:
                raise InvalidInput(f"a routing key has at most {KEY_BYTES} bytes", where="key")
            packed = to_bytes(message)
        except MsgdError as error:
            return fail(error)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return fail(InvalidInput(f"a message with this key, property or header cannot travel: {error}"))
        if not targets and mandatory:
            return fail(Unroutable(f"no queue takes messages of exchange {exchange!r} with key {key!r}"))
        durable: list[tuple[DurableQueue, Entry]] = []
        for target in targets:
            if isinstance(target, DurableQueue):
                durable.append((target, self._entry(target, exchange, key, message)))
            else:
                target.push(exchange, key, message)
        if not durable:
            return succeed(None)
        self._soon()
        return self._writer.publish(durable, packed)

    def _route(self, exchange: str, key: str) -> tuple[DurableQueue | EmbeddedReplies, ...]:
        if exchange:
            return self._router.route(exchange, key)
        queue = self._queues.get(key) or self._replies.get(key)
        return () if queue is None else (queue,)

    def _entry(self, queue: DurableQueue, exchange: str, key: str, message: Message) -> Entry:
        self._last_id += 1
        return Entry(queue.number << store.QUEUE_SHIFT | self._last_id, exchange, key, message)

    # -- consume ---------------------------------------------------------------------------------------------------

    async def consume(
        self, queue: str, callback: Callable[[Delivery], None], *, prefetch: int, ordered: bool = False
    ) -> EmbeddedConsumer:
        await self.ready()
        source = self._queues.get(queue)
        if source is None:
            raise NotFound(f"there is no queue {queue!r}", where="queue")
        consumer = EmbeddedConsumer(source, callback, prefetch=prefetch, ordered=ordered, settling=self)
        self._consumers[consumer] = None
        source.consumers.append(consumer)
        self.free(source)
        return consumer

    def done(self, queue: DurableQueue, entry: Entry) -> None:
        self._writer.settled(entry.id)
        self.free(queue)

    def came_back(self, queue: DurableQueue, entry: Entry) -> None:
        entry.deliveries += 1
        self._writer.came_back(entry.id)
        queue.give_back(entry)
        self.free(queue)

    def bury(self, queue: DurableQueue, entry: Entry, reason: str) -> Deferred[None]:
        message = dead_letter(entry.message, reason=reason, queue=queue.name, exchange=entry.exchange, key=entry.key)
        grave = self._queues[topology.DEAD_QUEUE]
        self._soon()
        return self._writer.publish(
            [(grave, self._entry(grave, topology.DEAD, entry.key, message))], to_bytes(message), settles=entry.id
        )

    def free(self, queue: DurableQueue) -> None:
        if self._connected:
            self._busy[queue] = None
            self._soon()

    def _hand_out(self, queue: DurableQueue) -> None:
        limit = queue.shape.delivery_limit
        for _ in range(TURN_DELIVERIES):
            consumer = queue.next_consumer()
            entry = queue.take() if consumer is not None else None
            if consumer is None or entry is None:
                break
            if limit != topology.NO_DELIVERY_LIMIT and entry.deliveries > limit:
                buried = self.bury(queue, entry, f"delivered {entry.deliveries} times without an acknowledgement")
                buried.addErrback(lambda failure: _log.failure("a message could not be made dead", failure=failure))
            else:
                consumer.deliver(entry)
        else:
            self.free(queue)
        if queue.wants_page:
            self._writer.page(queue)

    # -- turns of the reactor --------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Hand out and write at the end of this turn of the reactor, with all else that it brings."""
        if self._turn is None:
            self._turn = self._reactor.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        queues, self._busy = self._busy, {}
        for queue in queues:
            self._hand_out(queue)
        replies, self._busy_replies = self._busy_replies, {}
        for each in replies:
            if each.deliver(TURN_DELIVERIES):
                self.wake_replies(each)
        self._writer.flush()

    def stored(self, queues: Iterable[DurableQueue]) -> None:
        for queue in queues:
            self.free(queue)

    def writing_stopped(self, reason: str) -> None:
        _log.warn("the embedded broker cannot write, and tries again every second: {reason}", reason=reason)
        self._blocked = reason
        for observer in self._observers:
            observer.blocked(reason)

    def writing_resumed(self) -> None:
        _log.info("the embedded broker writes again")
        self._blocked = ""
        for observer in self._observers:
            observer.unblocked()

    # -- reply queues ----------------------------------------------------------------------------------------------

    async def reply_queue(
        self,
        callback: Callable[[Delivery], None],
        *,
        bindings: Iterable[tuple[str, str]] = (),
        lost: Callable[[], None],
        max_length: int = 10_000,
    ) -> EmbeddedReplies:
        """As the contract says; ``lost`` is never called, because there is no connection to lose."""
        await self.ready()
        self._last_reply += 1
        replies = EmbeddedReplies(f"{REPLIES_PREFIX}{self._last_reply}", callback, max_length=max_length, broker=self)
        self._replies[replies.name] = replies
        for exchange, key in bindings:
            self._router.bind(exchange, key, replies)
        return replies

    def bind_replies(self, exchange: str, key: str, replies: EmbeddedReplies) -> None:
        self._router.bind(exchange, key, replies)

    def unbind_replies(self, exchange: str, key: str, replies: EmbeddedReplies) -> None:
        self._router.unbind(exchange, key, replies)

    def forget_replies(self, replies: EmbeddedReplies) -> None:
        self._router.unbind_all(replies)
        self._replies.pop(replies.name, None)

    def wake_replies(self, replies: EmbeddedReplies) -> None:
        self._busy_replies[replies] = None
        self._soon()

    # -- queues ----------------------------------------------------------------------------------------------------

    async def has_mark(self, name: str) -> bool:
        self._check_started()
        return topology.LIFE_PREFIX + name in self._queues

    async def set_mark(self, name: str) -> None:
        self._check_started()
        await self._declare_all([topology.Queue(topology.LIFE_PREFIX + name, ())])

    async def declare_type(self, type_: str) -> None:
        self._types[type_] = None
        if self._connected:
            await self._declare_all(_job_shapes(type_))

    async def depths(self, queues: Iterable[str]) -> dict[str, int]:
        self._check_started()
        return {name: self._queues[name].ready for name in queues if name in self._queues}

    async def shortcomings(self) -> Sequence[str]:
        return ()

    def _check_started(self) -> None:
        """Raises BrokerUnavailable."""
        if not self._connected:
            raise BrokerUnavailable("the embedded broker is not started, or was stopped")

    async def _declare_all(self, shapes: Iterable[topology.Queue]) -> None:
        """Make the queues that there are not yet; returns after the commit."""
        missing = [shape for shape in shapes if shape.name not in self._queues]
        if not missing:
            return
        first = 1 + max((queue.number for queue in self._queues.values()), default=0)
        numbered = list(enumerate(missing, first))
        for number, shape in numbered:
            self._add(number, shape, 0)
        self._soon()
        await self._writer.change(partial(store.add_queues, queues=[(number, one.name) for number, one in numbered]))

    def _add(self, number: int, shape: topology.Queue, stored: int) -> None:
        queue = self._queues[shape.name] = DurableQueue(number, shape, stored)
        for exchange, key in shape.bindings:
            self._router.bind(exchange, key, queue)


def _stopped() -> BrokerUnavailable:
    return BrokerUnavailable("the embedded broker was stopped")


def _shape(name: str) -> topology.Queue:
    """What the topology says of a queue by its name: the file holds names only."""
    for shape in topology.QUEUES:
        if shape.name == name:
            return shape
    prefix = topology.JOBS + "."
    if name.startswith(prefix):
        for shape in _job_shapes(topology.job_type(name.removeprefix(prefix))):
            if shape.name == name:
                return shape
    return topology.Queue(name, ())


def _job_shapes(type_: str) -> tuple[topology.Queue, ...]:
    queues = topology.job_queues(type_)
    return queues.new, queues.high, queues.more
