"""Consumers of the durable queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgd.broker.amqp.channel import Channel
from msgd.broker.amqp.connection import Link
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.broker.amqp.standing import Standing
from msgd.broker.amqp.subscription import Bury, Subscription
from msgd.broker.interface import HELD_BYTES, Delivery


class AmqpConsumer(Standing):
    """A standing subscription to a queue; see :class:`msgd.broker.interface.Consumer`."""

    _held_bytes: int | None = None

    def __init__(
        self, queue: str, callback: Callable[[Delivery], None], *, prefetch: int, bury: Bury, **standing: Any
    ) -> None:
        """``standing``: what the base class takes."""
        super().__init__(f"the consumer of {queue}", **standing)
        self._queue = queue
        self._callback = callback
        self._prefetch = prefetch
        self._bury = bury
        self._tag = ""
        self._subscription: Subscription | None = None

    async def _stand_on(self, channel: Channel) -> None:
        await channel.basic_qos(prefetch_count=self._prefetch)
        self._subscription = Subscription(
            self._queue,
            self._callback,
            channel,
            self._bury,
            acked_by_broker=False,
            held_bytes=self._held_bytes,
        )
        answer = await channel.basic_consume(queue=self._queue)
        self._tag = answer.consumer_tag

    def _fallen(self) -> None:
        if self._subscription is not None:
            self._subscription.drop()
            self._subscription = None

    async def stop(self) -> None:
        """Take no more deliveries; those in hand may still be settled."""
        if not self.stopped:
            self._end()
            if self.stands and self._subscription is not None:
                await self._subscription.stop(self._tag)


class OrderedConsumer(AmqpConsumer):
    """A consumer with a connection of its own: it is cut to give deliveries back in their order, and left unread while
    enough are in hand."""

    _held_bytes = HELD_BYTES

    def __init__(self, *positional: Any, link: Link, **named: Any) -> None:
        """``link``: its connection, of which it is the only user."""
        super().__init__(*positional, **named)
        self.link = link

    def _fell(self, protocol: AmqpProtocol, why: str) -> None:
        protocol.give_up(why)  # and stand again on the next one

    async def stop(self) -> None:
        """Take no more deliveries; those in hand go back."""
        if not self.stopped:
            self._end()
            if self._subscription is not None:
                self._subscription.end()
        await self.link.stop(cut=True)
