"""Replies to RabbitMQ's direct reply-to, over a connection of their own.

Such a name, ``amq.rabbitmq.reply-to.…``, is an encoded reference to a process of one of the broker's nodes. Publishing
to one that the broker cannot decode ends the whole connection (541 INTERNAL_ERROR, seen with 3.10.8): to garbage that a
client made up, but also to an honest name of a node that has left the cluster or was replaced. Over the connection that
all else is published by, one such caller would stop the journal for good.

So these ride apart. What was on its way when their connection was lost goes again, each alone; one that was alone on
its way then is to blame, and its name is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.amqp.connection import Link, Prepare
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.broker.amqp.publisher import Publisher
from msgd.errors import BrokerUnavailable, MsgdError, Unroutable
from msgd.messages.envelope import Message

_log = Logger()

PREFIX: Final = "amq.rabbitmq.reply-to."

LOSSES: Final = 2
"""How often in a row a connection must be lost with nothing but one reply on its way: once may be an outage."""

REMEMBERED: Final = 1000
"""Names that were given up; a job has many events, and each would cost those losses again."""

Connect = Callable[[Prepare, Callable[[], None], Callable[[str], None]], Link]
"""Makes the connection: how to prepare it, whom to tell that it is up, and that it is down."""


class _Reply:
    """One reply, until it is taken or given up."""

    def __init__(self, key: str, message: Message) -> None:
        self.key = key
        self.message = message
        self.suspect = False
        self.losses = 0
        self.taken: Deferred[None] = Deferred()


class DirectReplies:
    """Publishes direct replies. The connection is made for the first of them."""

    def __init__(self, connect: Connect) -> None:
        self._publisher = Publisher()
        self._link = connect(self._prepare, self._up, self._down)
        self._is_begun = self._is_up = self._is_stopped = False
        self._waiting: deque[_Reply] = deque()
        self._flying: dict[_Reply, None] = {}
        self._returned: list[_Reply] = []  # by a lost connection, in their order
        self._given_up: dict[str, None] = {}

    def publish(self, key: str, message: Message) -> Deferred[None]:
        """As :meth:`msgd.broker.interface.Broker.publish`; fails with Unroutable for a name that was given up."""
        if self._is_stopped:
            return fail(BrokerUnavailable("the broker connection is stopped"))
        if key in self._given_up:
            return fail(_unusable(key))
        if not self._is_begun:
            self._is_begun = True
            self._link.start()
        reply = _Reply(key, message)
        self._waiting.append(reply)
        self._send()
        return reply.taken

    async def stop(self) -> None:
        """Close the connection, fail what is unconfirmed."""
        self._is_stopped = True
        await self._link.stop()
        gone = BrokerUnavailable("the broker connection is stopped")
        for reply in [*self._returned, *self._flying, *self._waiting]:
            reply.taken.errback(gone)
        self._returned.clear()
        self._flying.clear()
        self._waiting.clear()

    # -- the connection ------------------------------------------------------------------------------------------------

    async def _prepare(self, protocol: AmqpProtocol) -> None:
        await self._publisher.stand(protocol, self._link.address.user)

    def _up(self) -> None:
        self._is_up = True
        self._waiting.extendleft(reversed(self._returned))
        self._returned.clear()
        self._send()

    def _down(self, _: str) -> None:
        self._is_up = False

    # -- replies -------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Publish what may be published now: all there are, but a suspect only by itself."""
        while self._is_up and self._waiting:
            if self._flying and (self._waiting[0].suspect or any(reply.suspect for reply in self._flying)):
                return
            reply = self._waiting.popleft()
            self._flying[reply] = None
            published = self._publisher.publish("", reply.key, reply.message, False)
            published.addCallbacks(self._confirmed, self._failed, callbackArgs=(reply,), errbackArgs=(reply,))

    def _confirmed(self, _: None, reply: _Reply) -> None:
        if self._flying.pop(reply, self) is self:
            return  # stopped
        reply.taken.callback(None)
        self._send()

    def _failed(self, failure: Failure, reply: _Reply) -> None:
        if self._flying.pop(reply, self) is self:
            return
        if not failure.check(BrokerUnavailable) or self._is_stopped:
            reply.taken.errback(failure)
            self._send()
            return
        self._is_up = False
        if reply.suspect:
            reply.losses += 1
        reply.suspect = True
        if reply.losses < LOSSES:
            self._returned.append(reply)
            return
        self._give_up(reply.key)
        reply.taken.errback(_unusable(reply.key))

    def _give_up(self, key: str) -> None:
        _log.warn("no more replies to {key!r}: the broker ends a connection that publishes to it", key=key)
        if len(self._given_up) >= REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self._given_up[key] = None
        for queue in (self._returned, self._waiting):
            for reply in [one for one in queue if one.key == key]:
                queue.remove(reply)
                reply.taken.errback(_unusable(key))


def _unusable(key: str) -> MsgdError:
    return Unroutable(f"the broker cannot publish to {key!r}: the node that it names is gone, or never was")
