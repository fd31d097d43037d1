"""Reply queues: exclusive, named by the broker, acknowledged by the broker, of bounded length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from txamqp.client import ChannelClosed, Closed

from msgd.broker.amqp.channel import Channel, close_reason
from msgd.broker.amqp.declare import NOT_FOUND
from msgd.broker.amqp.standing import Standing
from msgd.broker.amqp.subscription import Bury, Subscription
from msgd.broker.interface import Delivery
from msgd.errors import NotFound

Binding = tuple[str, str]


class AmqpReplyQueue(Standing):
    """An exclusive queue for live and control messages; see :class:`msgd.broker.interface.ReplyQueue`."""

    def __init__(
        self,
        callback: Callable[[Delivery], None],
        *,
        bindings: Iterable[Binding],
        lost: Callable[[], None],
        max_length: int,
        bury: Bury,
        **standing: Any,
    ) -> None:
        """``standing``: what the base class takes."""
        super().__init__("a reply queue", **standing)
        self.name = ""
        self._callback = callback
        self._bindings = dict.fromkeys(bindings)
        self._lost = lost
        self._max_length = max_length
        self._bury = bury
        self._channel: Channel | None = None
        self._subscription: Subscription | None = None

    async def _stand_on(self, channel: Channel) -> None:
        # Classic: quorum queues cannot be exclusive. The oldest drop, the journal has them.
        answer = await channel.queue_declare(
            exclusive=True, auto_delete=True, arguments={"x-max-length": self._max_length, "x-overflow": "drop-head"}
        )
        self.name = answer.queue
        bound: dict[Binding, None] = {}
        while bound != self._bindings:  # they may change meanwhile
            for binding in [each for each in self._bindings if each not in bound]:
                bound[binding] = None
                await self._bind_on(channel, *binding)
            for binding in [each for each in bound if each not in self._bindings]:
                del bound[binding]
                await channel.queue_unbind(queue=self.name, exchange=binding[0], routing_key=binding[1])
        self._subscription = Subscription(self.name, self._callback, channel, self._bury, acked_by_broker=True)
        await channel.basic_consume(queue=self.name, no_ack=True)
        self._channel = channel

    async def _bind_on(self, channel: Channel, exchange: str, key: str) -> None:
        try:
            await channel.queue_bind(queue=self.name, exchange=exchange, routing_key=key)
        except ChannelClosed as error:
            if close_reason(error)[0] == NOT_FOUND:
                self._bindings.pop((exchange, key), None)  # else it would fail for ever
            raise

    def _fallen(self) -> None:
        self._channel = None
        if self._subscription is not None:
            self._subscription.drop()
            self._subscription = None

    def _stood_again(self) -> None:
        self._lost()

    async def bind(self, exchange: str, key: str) -> None:
        """Returns when messages published from now on arrive. Raises NotFound for an exchange that does not exist."""
        self._bindings[exchange, key] = None
        channel = self._channel
        if channel is not None:
            try:
                await self._bind_on(channel, exchange, key)
                return
            except ChannelClosed as error:
                code, text = close_reason(error)
                if code == NOT_FOUND:
                    raise NotFound(text, where=f"{exchange} {key}") from None
            except Closed:
                pass
        await self.stood()

    async def unbind(self, exchange: str, key: str) -> None:
        """Returns when messages published from now on do not arrive."""
        self._bindings.pop((exchange, key), None)
        channel = self._channel
        if channel is not None:
            try:
                await channel.queue_unbind(queue=self.name, exchange=exchange, routing_key=key)
            except Closed:
                pass  # the next queue will not have this binding

    async def close(self) -> None:
        """Delete the queue. Closing twice is harmless."""
        if not self.stopped:
            self._end()
            channel = self._channel
            if channel is not None:
                self._fallen()
                try:
                    await channel.queue_delete(queue=self.name)
                except Closed:
                    pass  # it went with its connection
                finally:
                    channel.end()
