"""A consumer's stay on one channel: deliveries in, acknowledgements out. It ends with the channel.

The consumer and the reply queue outlive it: they take a new one at every reconnect.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed

from msgd.broker.amqp.acks import Acks
from msgd.broker.amqp.channel import Channel, shielded
from msgd.broker.amqp.codec import Malformed, decode_text, decode_word
from msgd.broker.amqp.content import decode_message
from msgd.broker.amqp.frames import ACK, NACK, method_frame
from msgd.broker.interface import Delivery
from msgd.errors import Unavailable
from msgd.messages.envelope import Message

_log = Logger()

REQUEUE: Final = 2  # the bits of basic.nack
MULTIPLE: Final = 1

_unpack_tag = struct.Struct(">QB").unpack_from
_pack_settle = struct.Struct(">4sQB").pack

Bury = Callable[[Delivery, str], Deferred[None]]
"""Publishes a delivery to msgd.dead and acks it: what :meth:`Delivery.dead` promises."""


class AmqpDelivery:
    """One message in hand; see :class:`msgd.broker.interface.Delivery`."""

    __slots__ = ("_settled", "_subscription", "_tag", "exchange", "key", "message", "redelivered")

    def __init__(
        self, subscription: Subscription, tag: int, message: Message, exchange: str, key: str, redelivered: bool
    ) -> None:
        self._subscription = subscription
        self._tag = tag
        self._settled = False
        self.message = message
        self.exchange = exchange
        self.key = key
        self.redelivered = redelivered

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._subscription.queue

    @property
    def current(self) -> bool:
        """Whether an ``ack`` would still reach the broker."""
        return self._subscription.live

    def ack(self) -> None:
        """Done with it."""
        if not self._settled:
            self._settled = True
            self._subscription.ack(self._tag, len(self.message.body))

    def requeue(self) -> None:
        """Give it back."""
        if not self._settled:
            self._settled = True
            self._subscription.requeue(self._tag, len(self.message.body))

    def dead(self, reason: str) -> Deferred[None]:
        """Move it to msgd.dead."""
        return self._subscription.bury(self, reason)

    @property
    def settled(self) -> bool:
        """Whether it was acked or given back."""
        return self._settled


class Phase(enum.Enum):
    """Where a subscription is in its life; there is no way back."""

    SERVING = "serving"
    STOPPING = "stopping"  # the callback is not called any more, the broker may still send
    CANCELLED = "cancelled"  # the broker sends nothing more; what was handed over may still be settled
    ENDED = "ended"


class Subscription:
    """One ``basic.consume``, from its answer to the end of its channel."""

    def __init__(
        self,
        queue: str,
        callback: Callable[[Delivery], None],
        channel: Channel,
        bury: Bury,
        *,
        acked_by_broker: bool,
        held_bytes: int | None = None,
    ) -> None:
        """``acked_by_broker``: consumed with ``no-ack``, so that there is nothing to settle; ``held_bytes``: of bodies
        not settled, from which on nothing more is read from the connection, of which it is the only user then."""
        self.queue = queue
        self._callback = callback
        self._channel = channel
        self._bury = bury
        self._acked_by_broker = acked_by_broker
        self._held_bytes = held_bytes
        self._held = 0
        self._acks = Acks()
        self._last = 0
        self._phase = Phase.SERVING
        self._writing = False
        channel.on_deliver = self._deliver

    @property
    def live(self) -> bool:
        """Whether a delivery may still be settled."""
        return self._phase is not Phase.ENDED

    # -- in ------------------------------------------------------------------------------------------------------------

    def _deliver(self, method: bytes, header: bytes, body: bytes) -> None:
        """``basic.deliver``: consumer-tag, delivery-tag, redelivered, exchange, routing-key."""
        at = 5 + method[4]
        tag, redelivered = _unpack_tag(method, at)
        self._last = tag
        if self._phase is not Phase.SERVING:
            self.requeue(tag, 0)
            return
        self._held += len(body)
        if self._held_bytes is not None and self._held > self._held_bytes:
            self._channel.client.stop_reading()
        at += 9
        end = at + 1 + method[at]
        exchange = decode_word(method[at + 1 : end])
        key = decode_text(method[end + 1 :])
        try:
            message = decode_message(header, body)
        except Malformed as error:
            self._discard(AmqpDelivery(self, tag, Message(body=body), exchange, key, bool(redelivered)), error)
            return
        delivery = AmqpDelivery(self, tag, message, exchange, key, bool(redelivered))
        try:
            self._callback(delivery)
        except Exception as error:  # of whoever consumes: it costs this message, and not the connection
            _log.failure("A consumer of {queue} failed", queue=self.queue)
            self._discard(delivery, error)

    def _discard(self, delivery: AmqpDelivery, error: Exception) -> None:
        if delivery.settled or self._acked_by_broker:
            return

        def failed(failure: Failure) -> None:
            if not failure.check(Unavailable):  # else it comes again, and fails again
                _log.failure("A message from {queue} could not be made dead", failure, queue=self.queue)

        self.bury(delivery, f"{type(error).__name__}: {error}").addErrback(failed)

    def bury(self, delivery: AmqpDelivery, reason: str) -> Deferred[None]:
        """See :meth:`Delivery.dead`."""
        return self._bury(delivery, reason)

    # -- out -----------------------------------------------------------------------------------------------------------

    def ack(self, tag: int, size: int) -> None:
        """Settle a delivery of ``size`` bytes; written at the end of this turn, with all others."""
        if self._phase is not Phase.ENDED and not self._acked_by_broker:
            self._let_go(size)
            self._acks.ack(tag)
            self._write_soon()

    def requeue(self, tag: int, size: int) -> None:
        """Give a delivery of ``size`` bytes back."""
        if self._phase is not Phase.ENDED and not self._acked_by_broker:
            self._let_go(size)
            self._channel.client.write(method_frame(self._channel.id, _pack_settle(NACK, tag, REQUEUE)))
            self._acks.settled(tag)
            self._write_soon()

    def _let_go(self, size: int) -> None:
        self._held -= size
        if self._held_bytes is not None and self._held <= self._held_bytes:
            self._channel.client.read_on()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._channel.client.before_flush(self._write_acks)

    def _write_acks(self) -> None:
        self._writing = False
        if self._phase is Phase.ENDED:
            return
        multiple, singles = self._acks.take()
        channel = self._channel
        if multiple:
            channel.client.write(method_frame(channel.id, _pack_settle(ACK, multiple, MULTIPLE)))
        for tag in singles:
            channel.client.write(method_frame(channel.id, _pack_settle(ACK, tag, 0)))
        if self._phase is Phase.CANCELLED and self._acks.floor == self._last:
            self._phase = Phase.ENDED
            channel.end()

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop(self, consumer_tag: str) -> Deferred[None]:
        """Call nobody any more; what was handed over may still be settled, and the channel closes after the last.

        What is cancelled is only the wait.
        """
        if self._phase is not Phase.SERVING:
            return succeed(None)
        self._phase = Phase.STOPPING
        self._write_acks()

        def cancelled(_: object) -> None:
            if self._phase is Phase.STOPPING:
                self._phase = Phase.CANCELLED
                self._write_acks()

        def closed(failure: Failure) -> None:
            failure.trap(Closed)  # and all that it had goes back

        cancelling: Deferred[Any] = self._channel.basic_cancel(consumer_tag=consumer_tag)
        return shielded(cancelling.addCallbacks(cancelled, closed))

    def end(self) -> None:
        """Write the acknowledgements given so far; none counts from now on."""
        self._write_acks()
        self.drop()

    def drop(self) -> None:
        """The channel is gone: nothing can be settled any more."""
        self._phase = Phase.ENDED
