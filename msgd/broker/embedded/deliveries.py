"""Consumers of durable queues, and the messages in their hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.embedded.queues import DurableQueue, Entry
from msgd.broker.interface import HELD_BYTES, Delivery
from msgd.errors import BrokerUnavailable
from msgd.messages.envelope import Message

_log = Logger()


class Settling(Protocol):
    """What becomes of messages that leave a consumer's hands; the broker knows."""

    def done(self, queue: DurableQueue, entry: Entry) -> None:
        """Forget it."""

    def came_back(self, queue: DurableQueue, entry: Entry) -> None:
        """Hand it out again."""

    def bury(self, queue: DurableQueue, entry: Entry, reason: str) -> Deferred[None]:
        """Move it to the dead letters; fires after the commit."""

    def free(self, queue: DurableQueue) -> None:
        """A consumer of ``queue`` takes more, or is gone."""


class EmbeddedConsumer:
    """A standing subscription to a queue."""

    def __init__(
        self,
        queue: DurableQueue,
        callback: Callable[[Delivery], None],
        *,
        prefetch: int,
        ordered: bool,
        settling: Settling,
    ) -> None:
        self.queue = queue
        self.ordered = ordered
        self.settling = settling
        self.in_hand: dict[int, EmbeddedDelivery] = {}
        self._callback = callback
        self._prefetch = prefetch
        self._held_bytes = 0
        self._stopped = False

    @property
    def takes_more(self) -> bool:
        return len(self.in_hand) < self._prefetch and not (self.ordered and self._held_bytes > HELD_BYTES)

    def let_go(self, entry: Entry) -> None:
        """A message is not in hand any more."""
        if self.in_hand.pop(entry.id, None) is not None:
            self._held_bytes -= len(entry.message.body)

    def deliver(self, entry: Entry) -> None:
        """Hand a message out. Raises nothing."""
        delivery = EmbeddedDelivery(self, entry)
        self.in_hand[entry.id] = delivery
        self._held_bytes += len(entry.message.body)
        try:
            self._callback(delivery)
        except Exception as error:  # of whoever consumes: it costs this message, and not the queue
            _log.failure("the consumer of {queue} failed on a message: it is made dead", queue=self.queue.name)
            if delivery.current:
                delivery.dead(f"{type(error).__name__}: {error}").addErrback(_log_unburied, self.queue.name)

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self in self.queue.consumers:
            self.queue.consumers.remove(self)
        if self.ordered:
            for delivery in list(self.in_hand.values()):
                delivery.take_back()
        self.settling.free(self.queue)

    def end(self) -> list[Entry]:
        """The broker stops: nothing in hand can be settled any more. Returns what was."""
        self._stopped = True
        entries = [delivery.entry for delivery in self.in_hand.values()]
        for delivery in self.in_hand.values():
            delivery.current = False
        self.in_hand = {}
        return entries


class EmbeddedDelivery:
    """One message in hand; ``current`` until it is settled or taken away."""

    __slots__ = ("_burying", "consumer", "current", "entry")

    def __init__(self, consumer: EmbeddedConsumer, entry: Entry) -> None:
        self.consumer = consumer
        self.entry = entry
        self.current = True
        self._burying = False

    @property
    def message(self) -> Message:
        return self.entry.message

    @property
    def exchange(self) -> str:
        return self.entry.exchange

    @property
    def key(self) -> str:
        return self.entry.key

    @property
    def queue(self) -> str:
        return self.consumer.queue.name

    @property
    def redelivered(self) -> bool:
        return self.entry.deliveries > 0

    def ack(self) -> None:
        if self._let_go():
            self.consumer.settling.done(self.consumer.queue, self.entry)

    def requeue(self) -> None:
        if self._let_go():
            self.consumer.settling.came_back(self.consumer.queue, self.entry)

    def dead(self, reason: str) -> Deferred[None]:
        if not self.current or self._burying:
            return fail(BrokerUnavailable("the delivery is not in hand any more: the message comes again"))
        self._burying = True  # it stays in hand until it is safe among the dead letters
        buried = self.consumer.settling.bury(self.consumer.queue, self.entry, reason)
        return buried.addCallbacks(self._buried, self._not_buried)

    def take_back(self) -> None:
        """The consumer loses it, unsettled."""
        if not self._burying:
            self.requeue()

    def _let_go(self) -> bool:
        """Out of the consumer's hands; False if it was not in them."""
        if not self.current or self._burying:
            return False
        self.current = False
        self.consumer.let_go(self.entry)
        return True

    def _buried(self, _: None) -> None:
        self._burying = False
        if self._let_go():
            self.consumer.settling.free(self.consumer.queue)

    def _not_buried(self, failure: Failure) -> Failure:
        self._burying = False
        return failure


def _log_unburied(failure: Failure, queue: str) -> None:
    _log.failure("a message of {queue} could not be made dead: it stays in hand", failure=failure, queue=queue)
