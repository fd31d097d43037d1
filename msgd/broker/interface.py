"""The contract of a message broker, as far as msgd needs one.

Order: messages published by one caller to one exchange under keys that lead to the same queue arrive in the order of
the ``publish`` calls, until a connection is lost. Deliveries that were not acknowledged come back, in their order and
marked ``redelivered``, when their consumer or the connection ends.

Atomicity: none between messages. A message is safe when the Deferred of its ``publish`` has fired, not before.

Connection: implementations reconnect by themselves, for ever, and declare the topology each time. Consumers and reply
queues survive that; deliveries in hand do not: their ``ack`` does nothing, and they come again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from msgd.messages.envelope import Message

HELD_BYTES: Final = 32 * 1024 * 1024
"""Of bodies in the hands of an ordered consumer: its prefetch, which brokers count in messages, is made for small ones,
and a thousand of the largest would be a gigabyte."""


class Delivery(Protocol):
    """One message in hand. Exactly one of ``ack``, ``requeue`` and ``dead`` is called, once."""

    @property
    def message(self) -> Message: ...

    @property
    def exchange(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def queue(self) -> str: ...

    @property
    def redelivered(self) -> bool:
        """Whether the message may have been in somebody's hands before."""

    @property
    def current(self) -> bool:
        """Whether an ``ack`` would still reach the broker: False once the connection that brought it is gone."""

    def ack(self) -> None:
        """Done with it. Acknowledgements are written in order and joined; none is lost by :meth:`Broker.stop`."""

    def requeue(self) -> None:
        """Give it back; it may come again at once and out of order. Not for queues whose order counts."""

    def dead(self, reason: str) -> Deferred[None]:
        """Publish it to ``msgd.dead`` with headers ``msgd-reason``, ``msgd-queue``, ``msgd-exchange`` and ``msgd-key``,
        await the confirm, then ack. ``x-death`` is not passed on."""


class Consumer(Protocol):
    """A standing subscription to a queue."""

    async def stop(self) -> None:
        """Take no more deliveries: the callback is not called again, deliveries already handed over may still be acked.

        Deliveries that the broker had sent ahead go back. On an ``ordered`` consumer every unacknowledged delivery
        goes back in its order, so that the next consumer sees them as they were: handed-over ones cannot be acked any
        more. Stopping twice is harmless.
        """


class ReplyQueue(Protocol):
    """An exclusive queue of this process, acknowledged by the broker itself, of bounded length (the oldest drop)."""

    @property
    def name(self) -> str:
        """Changes with every reconnect."""

    async def bind(self, exchange: str, key: str) -> None:
        """Returns when messages published from now on arrive. Binding twice is harmless; survives reconnects."""

    async def unbind(self, exchange: str, key: str) -> None: ...

    async def close(self) -> None: ...


class Observer(Protocol):
    """Whoever wants to know how the connection is. Calls come in the reactor thread and must not raise."""

    def connected(self) -> None:
        """Connected, topology declared, consumers and reply queues stand."""

    def disconnected(self, reason: str) -> None: ...

    def blocked(self, reason: str) -> None:
        """The broker takes no publishes (its memory or disk alarm): those under way wait, and are confirmed later."""

    def unblocked(self) -> None: ...


class Broker(Protocol):
    """A connection to a message broker that mends itself."""

    @property
    def accepting(self) -> bool:
        """Connected and not blocked: False means 503 with ``Retry-After`` at the door."""

    @property
    def description(self) -> str:
        """For logs, checks and health: the kind, the version, and the address without its password."""

    @property
    def trouble(self) -> str:
        """Why it is not connected, in words for the operator; empty if it is, or has not tried."""

    async def start(self) -> None:
        """Begin to connect; returns when connected for the first time, however long that takes."""

    async def stop(self) -> None:
        """Flush acknowledgements, fail the unconfirmed with BrokerUnavailable, close. Stopping twice is harmless."""

    def observe(self, observer: Observer) -> None:
        """Tell ``observer`` from now on; if connected already, ``connected`` is called at once."""

    def ready(self) -> Deferred[None]:
        """Fires when connected (at once if so). Cancel it to stop waiting. Fails with BrokerUnavailable when the
        broker is stopped, and afterwards."""

    def publish(self, exchange: str, key: str, message: Message, *, mandatory: bool = False) -> Deferred[None]:
        """Fires when the broker has taken responsibility for the message (publisher confirm).

        Fails with BrokerUnavailable (not connected, or lost before the confirm: publish again under the same id),
        BrokerRefused (nack), or, if ``mandatory``, Unroutable (no queue took it). Never retried here. Messages
        published in one reactor turn are written together. The exchange ``""`` takes a queue's name as key.
        """

    async def consume(
        self, queue: str, callback: Callable[[Delivery], None], *, prefetch: int, ordered: bool = False
    ) -> Consumer:
        """Call ``callback`` for each message, at most ``prefetch`` of them unacknowledged.

        ``ordered``: this consumer must be able to give back deliveries in their order (see Consumer.stop), and
        at most one such consumer of a queue is served at a time, over all processes; the others wait their turn. It
        holds no more than HELD_BYTES of bodies, and one message.
        An error raised by ``callback`` is logged and the delivery is made dead with it; the consumer goes on.
        Returns when the consumer stands, waiting for the connection if need be. Raises NotFound if there is no such
        queue, BrokerUnavailable if the broker is stopped first.
        """

    async def reply_queue(
        self,
        callback: Callable[[Delivery], None],
        *,
        bindings: Iterable[tuple[str, str]] = (),
        lost: Callable[[], None],
        max_length: int = 10_000,
    ) -> ReplyQueue:
        """An exclusive queue for live and control messages, with ``(exchange, key)`` bindings.

        ``lost`` is called after every reconnect, once the bindings stand again: messages may have been missed.
        """

    async def has_mark(self, name: str) -> bool:
        """Whether the durable empty queue ``msgd.life.<name>`` exists: missing means that the broker was emptied.

        This, ``set_mark`` and ``depths`` do not wait for a connection: they raise BrokerUnavailable without one.
        """

    async def set_mark(self, name: str) -> None:
        """Declare that queue."""

    async def declare_type(self, type_: str) -> None:
        """Declare the queues of a job type (``topology.job_queues``), now and at every reconnect.

        Waits for the connection if need be; raises BrokerUnavailable if the broker is stopped first.
        """

    async def depths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages ready in each queue; a queue that does not exist is left out. For ``msgd top`` and metrics."""

    async def shortcomings(self) -> Sequence[str]:
        """What the broker lacks of what msgd builds on and could do without noticing: in words for the operator, with
        what to do. For ``msgd check``: to find out may cost the connection, which mends itself."""
