"""Job types that are accepted before a worker of theirs has ever run: their jobs wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.errors import BrokerUnavailable
from msgd.jobs.interface import Jobs
from msgd.work import JobType
from msgd.work.outage import wait_out

_log = Logger()


class Accepted:
    """Announces the types that the door knows, and has their queues declared. A :class:`~msgd.work.parts.Part`.

    Without it a job that comes before the first worker of its type would find no queue, and fail as one that nobody
    performs.
    """

    def __init__(self, types: Sequence[JobType[Any]], *, jobs: Jobs, broker: Broker, clock: Clock) -> None:
        self._types = types
        self._jobs = jobs
        self._broker = broker
        self._clock = clock
        self._declaring: list[Deferred[None]] = []

    async def start(self) -> None:
        """Returns when the types are announced; their queues are declared as soon as there is a broker."""
        for type_ in self._types:
            # First: what is published at the first connection must find the queue.
            declaring = Deferred.fromCoroutine(self._broker.declare_type(type_.name))
            declaring.addErrback(_failed, type_.name)
            self._declaring.append(declaring)
        for type_ in self._types:
            await wait_out(self._clock, partial(self._jobs.announce, type_.info()))

    async def stop(self) -> None:
        """Wait for the broker no longer."""
        while self._declaring:
            self._declaring.pop().cancel()


def _failed(failure: Failure, name: str) -> None:
    if not failure.check(CancelledError, BrokerUnavailable):
        _log.failure("the queues of {name} could not be declared", failure, name=name)
