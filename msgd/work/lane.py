"""The job messages of one type: from its three queues to the slots in which they are performed."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.logger import Logger

from msgd.broker.interface import Consumer, Delivery
from msgd.broker.topology import job_queues
from msgd.errors import InvalidInput
from msgd.messages.ids import IdMaker
from msgd.messages.jobs import JobMessage
from msgd.messages.wire import message_to_job
from msgd.work.attempt import Limits, Means
from msgd.work.choice import Kind, choose
from msgd.work.interface import Worker
from msgd.work.outage import wait_out
from msgd.work.performance import Call, comes_again

_log = Logger()


class Performer(Protocol):
    """Who performs what a lane has chosen."""

    @property
    def held_up(self) -> bool:
        """Whether nothing may be begun just now, although slots are free."""

    def join(self, call: Call, delivery: Delivery) -> bool:
        """Whether just this slice is being performed already; then the delivery was joined to it."""

    def perform(self, call: Call, delivery: Delivery) -> Deferred[None]:
        """Begin; fires when it is over, and never fails."""


class Lane:
    """Takes deliveries ahead, as many of each queue as there are slots, and chooses among those in hand.

    The order of one queue is kept; between the queues :mod:`~msgd.work.choice` decides. While the lane is closed
    (its type is paused, or the process stops) nothing is in hand: what was not begun has gone back.
    """

    def __init__(
        self,
        worker: Worker[Any],
        limits: Limits,
        means: Means,
        *,
        new_id: IdMaker,
        performer: Performer,
    ) -> None:
        self.worker = worker
        self._limits = limits
        self._means = means
        self._new_id = new_id
        self._performer = performer
        self._waiting: dict[Kind, deque[tuple[Call, Delivery]]] = {kind: deque() for kind in Kind}
        self._new = 0
        self._more = 0
        self._last: Kind | None = None
        self._adopting: set[Deferred[None]] = set()
        self._consumers: list[Consumer] = []
        self._wanted = False
        self._opening: Deferred[None] | None = None
        self._changing = DeferredLock()

    # -- open and closed ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take deliveries. Waits out a lost broker, unless :meth:`close` is called meanwhile."""
        self._wanted = True
        await self._changing.run(self._apply)

    async def close(self) -> None:
        """Take no more, give back what was not begun. What is being performed goes on."""
        self._wanted = False
        if self._opening is not None:
            self._opening.cancel()
        await self._changing.run(self._apply)

    def _apply(self) -> Deferred[None]:
        if self._wanted and not self._consumers:
            self._opening = Deferred.fromCoroutine(self._open())
            return self._opening
        if not self._wanted and self._consumers:
            return Deferred.fromCoroutine(self._close())
        return succeed(None)  # already as wanted

    async def _open(self) -> None:
        queues = job_queues(self.worker.type.name)
        try:
            for kind, queue in ((Kind.MORE, queues.more), (Kind.HIGH, queues.high), (Kind.NEW, queues.new)):
                callback = partial(self._delivered, kind)
                consume = partial(self._means.broker.consume, queue.name, callback, prefetch=self._limits.concurrency)
                self._consumers.append(await wait_out(self._means.clock, consume))
        except CancelledError:
            await self._close()
            if self._wanted:
                raise  # it was not close that cancelled
        finally:
            self._opening = None

    async def _close(self) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.stop()
        for adoption in list(self._adopting):
            adoption.cancel()
        for line in self._waiting.values():
            while line:
                line.popleft()[1].requeue()

    # -- deliveries ---------------------------------------------------------------------------------------------------

    def _delivered(self, kind: Kind, delivery: Delivery) -> None:
        received = delivery.message
        spare_id = "" if received.message_id else self._new_id(self._means.now_ms())
        try:
            message = message_to_job(self.worker.type.name, received, new_id=spare_id)
        except InvalidInput as error:
            _bury(delivery, error)
            return
        if message.slice is None:
            adoption = Deferred.fromCoroutine(self._adopt(message, delivery))
            self._adopting.add(adoption)
            adoption.addBoth(lambda _: self._adopting.discard(adoption))
            return
        call = Call(message.id, message.slice, self.worker, self._limits)
        if not self._performer.join(call, delivery):
            self._waiting[kind].append((call, delivery))
            self.fill()

    async def _adopt(self, message: JobMessage, delivery: Delivery) -> None:
        """A foreign client's message becomes a job, which comes back by itself as a message with a slice."""
        try:
            await wait_out(self._means.clock, lambda: self._means.jobs.adopt(message))
        except InvalidInput as error:
            _bury(delivery, error)
        except CancelledError:
            delivery.requeue()
        except Exception:  # a mistake of ours: the message is kept as a dead letter, the lane goes on
            _log.failure("{job} could not be adopted", job=message.id)
            delivery.dead("internal: it could not be adopted").addErrback(comes_again)
        else:
            delivery.ack()

    # -- slots --------------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Begin what may begin."""
        while self._wanted and not self._performer.held_up:
            kind = choose(
                [kind for kind, line in self._waiting.items() if line],
                slots=self._limits.concurrency,
                new=self._new,
                more=self._more,
                last=self._last,
            )
            if kind is None:
                return
            call, delivery = self._waiting[kind].popleft()
            if not delivery.current:
                continue  # its connection is gone: it comes again
            if self._performer.join(call, delivery):
                continue
            self._last = kind
            self._count(kind, 1)
            self._performer.perform(call, delivery).addCallback(self._over, kind)

    def _over(self, _: None, kind: Kind) -> None:
        self._count(kind, -1)
        self.fill()

    def _count(self, kind: Kind, change: int) -> None:
        if kind is Kind.MORE:
            self._more += change
        else:
            self._new += change


def _bury(delivery: Delivery, error: InvalidInput) -> None:
    delivery.dead(error.reason).addErrback(comes_again)
