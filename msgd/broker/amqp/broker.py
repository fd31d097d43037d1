"""The broker contract over RabbitMQ: a connection to publish, one to consume, one more per ordered consumer.

Direct replies, should there be any, have one too (see :mod:`msgd.broker.amqp.direct`).

A broker that has blocked a connection reads nothing from it, acknowledgements neither: hence two. An ordered consumer
has its own, because only a cut connection gives deliveries back in their order (see :meth:`AmqpProtocol.cut`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from txamqp.client import Closed

from msgd.broker import topology
from msgd.broker.amqp.channel import close_reason
from msgd.broker.amqp.connection import Link, Prepare, retry_delay
from msgd.broker.amqp.consumer import AmqpConsumer, OrderedConsumer
from msgd.broker.amqp.declare import check_version, declare, has_streams, ready_counts
from msgd.broker.amqp.direct import PREFIX as DIRECT
from msgd.broker.amqp.direct import DirectReplies
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.broker.amqp.publisher import Publisher
from msgd.broker.amqp.replies import AmqpReplyQueue
from msgd.broker.amqp.standing import Standing
from msgd.broker.amqp.url import parse_url
from msgd.broker.interface import Delivery, Observer
from msgd.errors import BrokerRefused, BrokerUnavailable, ConfigError, InvalidInput
from msgd.messages.dead_letters import dead_letter
from msgd.messages.envelope import Message

_log = Logger()


NO_STREAMS: Final = (
    "its feature flag stream_queue is off, so that a job message which it gives up may be lost on the way to the dead "
    "letters: rabbitmqctl enable_feature_flag stream_queue"
)


class _State(enum.Enum):
    NEW = "new"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"


class AmqpBroker:
    """See :class:`msgd.broker.interface.Broker`."""

    def __init__(self, reactor: Any, urls: Sequence[str], *, name: str, jitter: Callable[[], float]) -> None:
        """``urls``: of one broker, or of the nodes of a cluster, tried in turn. Raises ConfigError for a bad one.

        ``name`` is what the broker's tools show of this process; ``jitter`` gives numbers from 0 to 1.
        """
        if not urls:
            raise ConfigError("no broker URL", where="broker.url")
        self._addresses = [parse_url(url) for url in urls]
        self._reactor = reactor
        self._name = name
        self._jitter = jitter
        self._state = _State.NEW
        self._connected = False
        self._blocked = ""  # the broker's reason
        self._publisher = Publisher()
        self._direct = DirectReplies(lambda *how: self._link("reply", *how))
        self._publishing = self._link("publish", self._prepare_to_publish)
        self._consuming = self._link("consume", self._prepare_to_consume)
        self._declaring = DeferredLock()
        self._types: dict[str, tuple[topology.Queue, ...]] = {}
        self._standing: list[Standing] = []
        self._ordered: list[OrderedConsumer] = []
        self._observers: list[Observer] = []
        self._awaiting_ready: list[Deferred[None]] = []
        self._awaiting_stop: list[Deferred[None]] = []
        self._pauses: set[Deferred[None]] = set()

    def _link(
        self,
        role: str,
        prepare: Prepare,
        up: Callable[[], None] | None = None,
        down: Callable[[str], None] | None = None,
    ) -> Link:
        return Link(
            self._reactor,
            self._addresses,
            name=f"{self._name} ({role})",
            prepare=prepare,
            up=up or self._up,
            down=down or self._down,
            jitter=self._jitter,
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def accepting(self) -> bool:
        """Connected and not blocked."""
        return self._connected and not self._blocked and not self._closing()

    @property
    def description(self) -> str:
        """The product, its version, and the address without its password."""
        server = self._publishing.server
        product = f"{server.get('product', 'AMQP broker')} {server.get('version', '')}".strip()
        return f"{product} at {self._publishing.address}"

    @property
    def trouble(self) -> str:
        """Why it is not connected."""
        links = (self._publishing, self._consuming)
        return next((link.trouble for link in links if link.protocol is None and link.trouble), "")

    async def start(self) -> None:
        """Begin to connect; returns when connected for the first time."""
        if self._state is _State.NEW:
            self._state = _State.STARTED
            self._publishing.start()
            self._consuming.start()
            for consumer in self._ordered:
                consumer.link.start()
        await self.ready()

    async def stop(self) -> None:
        """Flush acknowledgements, close, fail what is unconfirmed."""
        if self._state is _State.STOPPED:
            return
        if self._state is _State.STOPPING:
            stopped: Deferred[None] = Deferred(self._awaiting_stop.remove)
            self._awaiting_stop.append(stopped)
            await stopped
            return
        self._state = _State.STOPPING
        for ordered in list(self._ordered):
            await ordered.stop()
        await self._consuming.stop()
        await self._direct.stop()
        await self._publishing.stop()
        self._state = _State.STOPPED
        self._now_down("stopped")
        gone = BrokerUnavailable("the broker connection is stopped")
        for standing in list(self._standing):
            standing.give_up(gone)
        self._standing.clear()
        for pause in list(self._pauses):
            pause.callback(None)
        while self._awaiting_ready:
            self._awaiting_ready.pop(0).errback(gone)
        while self._awaiting_stop:
            self._awaiting_stop.pop(0).callback(None)

    def observe(self, observer: Observer) -> None:
        """Tell ``observer`` from now on."""
        self._observers.append(observer)
        if self._connected:
            observer.connected()
        if self._blocked:
            observer.blocked(self._blocked)

    def ready(self) -> Deferred[None]:
        """Fires when connected."""
        ready: Deferred[None] = Deferred(self._awaiting_ready.remove)
        if self._connected and not self._closing():
            ready.callback(None)
        elif self._state in (_State.STOPPING, _State.STOPPED):
            ready.errback(BrokerUnavailable("the broker connection is stopped"))
        else:
            self._awaiting_ready.append(ready)
        return ready

    def _closing(self) -> bool:
        """Whether a connection is at its end, though nobody has been told yet. Who hears that a confirm will not come,
        and asks, would publish again at once, in vain, for ever."""
        return any(link.protocol is not None and link.protocol.closed for link in self._links())

    def _links(self) -> list[Link]:
        """The connections that are, and those that ever were."""
        return [self._publishing, self._consuming, *(each.link for each in self._ordered if each.link.server)]

    def _up(self) -> None:
        """A connection is ready; all of them that were ever must be."""
        missing = self._closing() or any(link.protocol is None for link in self._links())
        if self._connected or self._state is not _State.STARTED or missing:
            return
        self._connected = True
        self._tell("connected")
        while self._awaiting_ready:
            self._awaiting_ready.pop(0).callback(None)

    def _down(self, reason: str) -> None:
        """A connection was lost."""
        self._now_down(reason)
        if self._blocked and self._publishing.protocol is None:
            self._now_unblocked()

    def _now_down(self, reason: str) -> None:
        if self._connected:
            self._connected = False
            self._tell("disconnected", reason)

    def _now_blocked(self, reason: str) -> None:
        _log.warn("{name}: the broker takes no messages: {reason}", name=self._name, reason=reason)
        self._blocked = reason or "no reason given"
        self._tell("blocked", self._blocked)

    def _now_unblocked(self) -> None:
        self._blocked = ""
        self._tell("unblocked")

    def _tell(self, what: str, *words: str) -> None:
        for observer in list(self._observers):
            try:
                getattr(observer, what)(*words)
            except Exception:  # whoever listens must not break the connection
                _log.failure("An observer of the broker failed")

    async def _pause(self, seconds: float) -> None:
        """Returns after so many seconds, or as soon as the broker is stopped."""
        pause: Deferred[None] = Deferred()
        timer = self._reactor.callLater(seconds, pause.callback, None)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            self._pauses.discard(pause)
            if timer.active():
                timer.cancel()

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _declare(self, protocol: AmqpProtocol) -> None:
        """Declare the topology, and the job types known so far."""
        check_version(protocol.server)
        queues = [*topology.QUEUES, *(queue for queues in self._types.values() for queue in queues)]
        # In turn: two declarations of one new quorum queue at the same time can fail.
        async with self._declaring:
            await declare(protocol, topology.EXCHANGES, queues)

    async def _prepare_to_publish(self, protocol: AmqpProtocol) -> None:
        await self._declare(protocol)
        protocol.on_blocked = self._now_blocked
        protocol.on_unblocked = self._now_unblocked
        await self._publisher.stand(protocol, self._publishing.address.user)

    async def _prepare_to_consume(self, protocol: AmqpProtocol) -> None:
        await self._declare(protocol)
        tried: list[Standing] = []
        while True:  # some may come, and some go, meanwhile
            standing = next((each for each in self._standing if each not in tried), None)
            if standing is None:
                return
            tried.append(standing)
            await standing.stand_or_retry(protocol)

    def _connection(self) -> AmqpProtocol:
        """The consuming connection, for questions. Raises BrokerUnavailable."""
        protocol = self._consuming.protocol
        if protocol is None:
            raise BrokerUnavailable("not connected to a broker")
        return protocol

    # -- publishing ----------------------------------------------------------------------------------------------------

    def publish(self, exchange: str, key: str, message: Message, *, mandatory: bool = False) -> Deferred[None]:
        """Fires when the broker has taken responsibility for the message."""
        if not exchange and key.startswith(DIRECT) and self._publishing.protocol is not None:
            return self._direct.publish(key, message)
        return self._publisher.publish(exchange, key, message, mandatory)

    def _bury(self, delivery: Delivery, reason: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._buried(delivery, reason))

    async def _buried(self, delivery: Delivery, reason: str) -> None:
        made = partial(
            dead_letter,
            delivery.message,
            reason=reason,
            queue=delivery.queue,
            exchange=delivery.exchange,
            key=delivery.key,
        )
        letter, bare = made(), made(with_headers=False)
        attempt = 0
        while True:
            attempt += 1
            try:
                await self.publish(topology.DEAD, delivery.key, letter)
                break
            except InvalidInput:
                if letter is bare:
                    raise
                letter = bare  # its own headers leave no room for ours
            except (BrokerUnavailable, BrokerRefused):
                if not delivery.current:
                    raise  # it comes again
                await self._pause(retry_delay(attempt, self._jitter))
        delivery.ack()

    # -- consuming -----------------------------------------------------------------------------------------------------

    async def consume(
        self, queue: str, callback: Callable[[Delivery], None], *, prefetch: int, ordered: bool = False
    ) -> AmqpConsumer:
        """Call ``callback`` for each message, at most ``prefetch`` of them unacknowledged."""
        if not ordered:
            consumer = AmqpConsumer(queue, callback, prefetch=prefetch, bury=self._bury, **self._standing_arguments())
            await self._raise_up(consumer)
            return consumer

        async def prepare(protocol: AmqpProtocol) -> None:
            await self._declare(protocol)
            await one.stand_or_retry(protocol)

        one = OrderedConsumer(
            queue,
            callback,
            prefetch=prefetch,
            bury=self._bury,
            link=self._link(f"consume {queue} in order", prepare),
            **self._standing_arguments(),
        )
        self._ordered.append(one)
        if self._state is _State.STARTED:
            one.link.start()
        try:
            await one.stood()
        except BaseException:  # given up by whoever waited too: nobody holds it, so nobody would stop it
            self._forget(one)
            await one.stop()
            raise
        return one

    async def reply_queue(
        self,
        callback: Callable[[Delivery], None],
        *,
        bindings: Iterable[tuple[str, str]] = (),
        lost: Callable[[], None],
        max_length: int = 10_000,
    ) -> AmqpReplyQueue:
        """An exclusive queue for live and control messages."""
        replies = AmqpReplyQueue(
            callback,
            bindings=bindings,
            lost=lost,
            max_length=max_length,
            bury=self._bury,
            **self._standing_arguments(),
        )
        await self._raise_up(replies)
        return replies

    def _standing_arguments(self) -> dict[str, Any]:
        if self._state in (_State.STOPPING, _State.STOPPED):
            raise BrokerUnavailable("the broker connection is stopped")
        return {"redeclare": self._declare, "pause": self._pause, "jitter": self._jitter, "ended": self._forget}

    async def _raise_up(self, standing: Standing) -> None:
        self._standing.append(standing)
        try:
            protocol = self._consuming.protocol
            if protocol is not None:
                try:
                    await standing.stand_or_retry(protocol)
                except Closed:
                    pass  # it stands on the next connection
            await standing.stood()
        except BaseException:  # given up by whoever waited too: nobody holds it, so nobody would stop it
            standing.give_up(BrokerUnavailable("given up"))
            self._forget(standing)
            raise

    def _forget(self, standing: Standing) -> None:
        """A consumer or reply queue was stopped."""
        for kept in (self._standing, self._ordered):
            if standing in kept:
                kept.remove(standing)  # type: ignore[arg-type]  # whichever of the two has it takes it
        self._up()  # it may have been all that was missing

    # -- the topology --------------------------------------------------------------------------------------------------

    async def declare_type(self, type_: str) -> None:
        """Declare the queues of a job type, now and at every reconnect."""
        queues = topology.job_queues(type_)
        self._types[type_] = (queues.new, queues.high, queues.more)
        attempt = 0
        while True:
            await self.ready()
            try:
                async with self._declaring:
                    await declare(self._connection(), (), self._types[type_])
                return
            except (Closed, BrokerUnavailable):
                attempt += 1
                await self._pause(retry_delay(attempt, self._jitter))

    async def depths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages ready in each queue that exists."""
        try:
            return await ready_counts(self._connection(), queues)
        except Closed as error:
            raise BrokerUnavailable(close_reason(error)[1]) from None

    async def shortcomings(self) -> Sequence[str]:
        """Of RabbitMQ: whether it dead-letters at least once."""
        try:
            if await has_streams(self._connection()):
                return ()
        except Closed as error:
            raise BrokerUnavailable(close_reason(error)[1]) from None
        return (NO_STREAMS,)

    async def has_mark(self, name: str) -> bool:
        """Whether the mark is set."""
        return bool(await self.depths([topology.LIFE_PREFIX + name]))

    async def set_mark(self, name: str) -> None:
        """Set the mark."""
        mark = topology.Queue(topology.LIFE_PREFIX + name, ())
        try:
            async with self._declaring:
                await declare(self._connection(), (), [mark])
        except Closed as error:
            raise BrokerUnavailable(close_reason(error)[1]) from None
