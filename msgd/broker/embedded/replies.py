"""Reply queues: in memory, of bounded length, acknowledged as they are handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from msgd.broker.interface import Delivery
from msgd.errors import BrokerUnavailable
from msgd.messages.envelope import Message

_log = Logger()


class Binding(Protocol):
    """Who knows the bindings; the broker."""

    def bind_replies(self, exchange: str, key: str, replies: EmbeddedReplies) -> None: ...

    def unbind_replies(self, exchange: str, key: str, replies: EmbeddedReplies) -> None: ...

    def forget_replies(self, replies: EmbeddedReplies) -> None: ...

    def wake_replies(self, replies: EmbeddedReplies) -> None:
        """Call :meth:`EmbeddedReplies.deliver` in a turn of its own."""


class EmbeddedReplies:
    """One reply queue."""

    def __init__(self, name: str, callback: Callable[[Delivery], None], *, max_length: int, broker: Binding) -> None:
        self._name = name
        self._callback = callback
        self._waiting: deque[ReplyDelivery] = deque(maxlen=max_length)  # a full deque drops the oldest
        self._broker = broker
        self._closed = False

    @property
    def name(self) -> str:
        return self._name

    async def bind(self, exchange: str, key: str) -> None:
        if self._closed:
            raise BrokerUnavailable(f"the reply queue {self._name} is closed")
        self._broker.bind_replies(exchange, key, self)

    async def unbind(self, exchange: str, key: str) -> None:
        if not self._closed:
            self._broker.unbind_replies(exchange, key, self)

    async def close(self) -> None:
        if not self._closed:
            self.end()
            self._broker.forget_replies(self)

    def end(self) -> None:
        """Hand out nothing more."""
        self._closed = True
        self._waiting.clear()

    def push(self, exchange: str, key: str, message: Message) -> None:
        """A message has come; it is handed out in a later turn, because callbacks may publish."""
        if not self._waiting:
            self._broker.wake_replies(self)
        self._waiting.append(ReplyDelivery(self._name, exchange, key, message))

    def deliver(self, count: int) -> bool:
        """Hand out up to ``count`` messages; whether there are more. Raises nothing."""
        for _ in range(min(count, len(self._waiting))):
            if not self._waiting:  # closed by the callback
                break
            try:
                self._callback(self._waiting.popleft())
            except Exception:  # the callback's own mistake: the next message is another one
                _log.failure("the callback of the reply queue {name} failed on a message", name=self._name)
        return bool(self._waiting)


class ReplyDelivery:
    """One message of a reply queue. It is acknowledged already: settling it does nothing."""

    __slots__ = ("exchange", "key", "message", "queue")

    redelivered = False
    current = True

    def __init__(self, queue: str, exchange: str, key: str, message: Message) -> None:
        self.queue = queue
        self.exchange = exchange
        self.key = key
        self.message = message

    def ack(self) -> None:
        """Nothing to do."""

    def requeue(self) -> None:
        """Nothing to do: a reply queue never repeats."""

    def dead(self, reason: str) -> Deferred[None]:
        """Live messages have no dead letters: the journal has what matters."""
        return fail(BrokerUnavailable("a message of a reply queue cannot be made dead: it is acknowledged already"))
