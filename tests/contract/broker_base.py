"""What the contract of ``msgd.broker.interface`` is tested with: brokers, consumers and observers that tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet import defer, reactor, task
from twisted.internet.defer import Deferred
from twisted.trial import unittest

from msgd.broker import topology
from msgd.broker.interface import Broker, Delivery
from msgd.messages.envelope import Message

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object

JOBS = topology.job_queues("crawl").new.name


class Inbox:
    """A consumer's callback that keeps what it is given until a test takes it."""

    def __init__(self, then: Callable[[Delivery], None] | None = None) -> None:
        """``then`` is called with each delivery after it was kept, for example to acknowledge it at once."""
        self.seen: list[Delivery] = []
        self._then = then
        self._taken = 0
        self._wanted: tuple[int, Deferred[None]] | None = None

    def __call__(self, delivery: Delivery) -> None:
        self.seen.append(delivery)
        if self._then is not None:
            self._then(delivery)
        if self._wanted is not None and len(self.seen) >= self._wanted[0]:
            wanted, self._wanted = self._wanted[1], None
            wanted.callback(None)

    async def take(self, count: int = 1) -> list[Delivery]:
        """The next ``count`` deliveries, waiting for them."""
        end = self._taken + count
        if len(self.seen) < end:
            arrived: Deferred[None] = Deferred()
            self._wanted = (end, arrived)
            await arrived
        start, self._taken = self._taken, end
        return self.seen[start:end]


class Watcher:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connected(self) -> None:
        self.told.append("connected")

    def disconnected(self, reason: str) -> None:
        self.told.append("disconnected")

    def blocked(self, reason: str) -> None:
        self.told.append("blocked")

    def unblocked(self) -> None:
        self.told.append("unblocked")


def message(number: int) -> Message:
    """A small message that tells its number."""
    return Message(body=str(number).encode(), message_id=f"m{number}")


def numbers(deliveries: list[Delivery]) -> list[int]:
    """The numbers of messages made by :func:`message`."""
    return [int(delivery.message.body) for delivery in deliveries]


def ack(delivery: Delivery) -> None:
    delivery.ack()


class BrokerBase(_Base):
    """What all parts of the suite begin with. Implementations provide :meth:`make_broker`."""

    timeout = 300

    def make_broker(self) -> Broker:
        """A broker, not started, over this test's own store of messages; at most one is running at a time."""
        raise NotImplementedError

    async def opened(self) -> Broker:
        """A started broker, stopped when the test ends."""
        broker = self.make_broker()
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        await broker.start()
        return broker

    async def publish(self, broker: Broker, *range_: int, exchange: str = topology.JOBS, key: str = "crawl") -> None:
        """Publish ``message(n)`` for ``n in range(*range_)``, all in one turn, and await the confirms."""
        await defer.gatherResults([broker.publish(exchange, key, message(n)) for n in range(*range_)])

    async def settled(self, broker: Broker, queue: str, count: int) -> None:
        """Returns when ``queue`` holds ``count`` messages ready; what is on its way back takes a moment."""
        while (await broker.depths([queue])).get(queue) != count:
            await task.deferLater(reactor, 0.005)
