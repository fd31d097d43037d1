"""What stands on a channel, and stands up again: on every new connection, and when only the channel fell.

A channel falls when its queue is deleted (the broker cancels the consumer) or a delivery was held too long (it closes
the channel).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from msgd.broker.amqp.channel import Channel, close_reason
from msgd.broker.amqp.connection import retry_delay
from msgd.broker.amqp.declare import NOT_FOUND
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.errors import BrokerUnavailable, MsgdError, NotFound

_log = Logger()

Pause = Callable[[float], Awaitable[None]]
"""Returns after so many seconds, or as soon as the broker is stopped."""

Redeclare = Callable[[AmqpProtocol], Awaitable[None]]

CANCELLED: Final = "the broker cancelled it: the queue was deleted, or moved"


class Standing:
    """The life of a consumer or reply queue over many connections. Subclasses say how to stand on one channel."""

    def __init__(
        self,
        name: str,
        *,
        redeclare: Redeclare,
        pause: Pause,
        jitter: Callable[[], float],
        ended: Callable[[Standing], None],
    ) -> None:
        """``name`` is for the log; ``redeclare`` brings back the topology; ``ended`` is called when it is stopped."""
        self._name = name
        self._redeclare = redeclare
        self._pause = pause
        self._jitter = jitter
        self._ended = ended
        self._why: MsgdError | None = None
        self._waiting: list[Deferred[None]] = []
        self._stood_once = False
        self.stands = False
        self.stopped = False

    async def _stand_on(self, channel: Channel) -> None:
        """Take what is needed from a new channel. Raises Closed."""
        raise NotImplementedError

    def _fallen(self) -> None:
        """The channel is gone."""
        raise NotImplementedError

    def _stood_again(self) -> None:
        """It stands for another time; for subclasses that care."""

    async def stand_or_retry(self, protocol: AmqpProtocol) -> None:
        """Stand on this connection from now on, later if need be; give up if the queue was never there.

        Raises Closed if the connection is lost meanwhile.
        """
        try:
            await self._stand(protocol)
        except ChannelClosed as error:
            code, text = close_reason(error)
            if code == NOT_FOUND and not self._stood_once:
                self.give_up(NotFound(text, where=self._name))
            else:
                self._fell(protocol, text)

    async def _stand(self, protocol: AmqpProtocol) -> None:
        channel = await protocol.open_channel()

        def closed(error: Closed) -> None:
            self.stands = False
            self._fallen()
            if not self.stopped and not protocol.closed:
                self._fell(protocol, close_reason(error)[1])

        def cancelled() -> None:
            channel.end()
            closed(Closed(CANCELLED))

        try:
            await self._stand_on(channel)
        except BaseException:  # a cancellation too: nobody may go on consuming
            self._fallen()
            channel.end()
            raise
        if self.stopped:
            self._fallen()
            channel.end()
            return
        channel.on_closed = closed
        channel.on_cancel = cancelled
        again, self._stood_once = self._stood_once, True
        self.stands = True
        while self._waiting:
            self._waiting.pop(0).callback(None)
        if again:
            self._stood_again()

    def _fell(self, protocol: AmqpProtocol, why: str) -> None:
        """The channel fell, the connection lives: stand up again, as often as it takes."""
        _log.warn("{name} lost its channel: {why}", name=self._name, why=why)
        Deferred.fromCoroutine(self._stand_again(protocol)).addErrback(
            lambda failure: _log.failure("{name} cannot stand again", failure, name=self._name)
        )

    async def _stand_again(self, protocol: AmqpProtocol) -> None:
        attempt = 0
        while not (self.stands or self.stopped or protocol.closed):
            attempt += 1
            await self._pause(retry_delay(attempt, self._jitter))
            if self.stopped or protocol.closed:
                return
            try:
                await self._redeclare(protocol)
                await self._stand(protocol)
            except (Closed, MsgdError) as error:
                _log.warn("{name} cannot stand again yet: {why}", name=self._name, why=close_reason(error)[1])

    def stood(self) -> Deferred[None]:
        """Fires when it stands, at once if it does. Fails with what :meth:`give_up` was given."""
        stood: Deferred[None] = Deferred(self._waiting.remove)
        if self.stands:
            stood.callback(None)
        elif self._why is not None:
            stood.errback(self._why)
        else:
            self._waiting.append(stood)
        return stood

    def _end(self) -> None:
        """Stopped on purpose."""
        self.give_up(BrokerUnavailable(f"{self._name} is stopped"))
        self._ended(self)

    def give_up(self, why: MsgdError) -> None:
        """Never stand again: whoever waits is told why."""
        self.stopped = True
        self._why = self._why or why
        while self._waiting:
            self._waiting.pop(0).errback(self._why)
