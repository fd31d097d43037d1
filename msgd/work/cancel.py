"""Cancelling a job within a second, from either side: who asks for it, and who performs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.broker.topology import CONTROL, cancel_key
from msgd.clock import Clock, sleep
from msgd.errors import Unavailable
from msgd.jobs.interface import Job, Jobs
from msgd.messages.envelope import Message

_log = Logger()

PATIENCE_S: Final = 0.7
"""For the worker to end the job itself, which it does in milliseconds if it lives; the rest of the second is for the
journal and the way to the browser."""

_ANY_JOB: Final = cancel_key("*")


async def cancel(jobs: Jobs, broker: Broker, clock: Clock, job: str) -> Job:
    """End a job, in whatever state; returns it when it has ended. Raises NotFound, DatabaseUnavailable.

    A running one is first flagged, then its worker is told; what that has not ended in time is ended from here.
    """
    found = await jobs.cancel(job)
    if found.ended:
        return found
    try:
        await broker.publish(CONTROL, cancel_key(job), Message(body=b"{}", persistent=False))
    except Unavailable as error:
        _log.info("the worker of {job} cannot be told of its cancel: {error}", job=job, error=error)
    await sleep(clock, PATIENCE_S)
    await jobs.end_cancelled(job, found.run)
    return await jobs.get(job)


class CancelSignals:
    """Hears of cancels, for a process that performs jobs. A :class:`~msgd.work.parts.Part`.

    A signal that is lost is made up for by the answer to the next heartbeat, so reconnects need no care.
    """

    def __init__(self, broker: Broker, cancelled: Callable[[str], None]) -> None:
        """``cancelled`` is called with the id of each job whose cancel was requested, in whatever process it is."""
        self._broker = broker
        self._cancelled = cancelled
        self._queue: ReplyQueue | None = None

    async def start(self) -> None:
        self._queue = await self._broker.reply_queue(self._heard, bindings=[(CONTROL, _ANY_JOB)], lost=_made_up_for)

    async def stop(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.close()

    def _heard(self, delivery: Delivery) -> None:
        self._cancelled(delivery.key.removeprefix(_ANY_JOB[:-1]))


def _made_up_for() -> None:
    """Signals may have been lost: the heartbeat tells."""
