"""A delivered job message in hand, from its claim to its ack; and the ways in which it is stopped from outside."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Delivery
from msgd.errors import Superseded
from msgd.jobs.interface import Beat, Claimed, ClaimRequest, Refusal
from msgd.work.attempt import Attempt, Cancelled, Limits, Means, begin, outcome_of, perform, settle
from msgd.work.context import AttemptContext
from msgd.work.interface import Outcome, Worker
from msgd.work.outage import wait_out
from msgd.work.solitude import Solitude

_log = Logger()


class Call(Struct, frozen=True):
    """A job message that calls this process to perform a slice."""

    job: str
    slice: int
    worker: Worker[Any]
    limits: Limits


class _Stage(enum.IntEnum):
    """How far a performance is; it never goes back."""

    CLAIMING = 1
    PERFORMING = 2  # or waiting for its turn
    CONFIRMING = 3  # its events
    SETTLING = 4  # whatever comes from outside now is late: the database decides
    OVER = 5


class Performance:
    """Claims the slice that a message calls for, performs it, settles it, and acknowledges the message last."""

    def __init__(
        self,
        call: Call,
        delivery: Delivery,
        means: Means,
        *,
        process: str,
        solitude: Solitude,
        make_way: Callable[[], None],
    ) -> None:
        """``process``: the name under which it claims; ``make_way``: asks those beside it to save soon."""
        self.call = call
        self._delivery = delivery
        self._means = means
        self._solitude = solitude
        self._process = process
        self._make_way = make_way
        self._stage = _Stage.CLAIMING
        self._cancelled = False
        self._lost = False
        self._abandoned = False
        self._claimed: Claimed | None = None
        self._context: AttemptContext[Any] | None = None
        self._whole: Deferred[None] | None = None
        self._stoppable: Deferred[Any] | None = None  # the wait for its turn, then the worker's part

    # -- from outside -------------------------------------------------------------------------------------------------

    @property
    def beat(self) -> Beat | None:
        """The sign of life, once it is claimed."""
        if self._claimed is None or self._stage is _Stage.OVER:
            return None
        return Beat(self._claimed.claim, self._context.shown if self._context is not None else None)

    @property
    def alone(self) -> bool:
        """Whether it must have nothing beside it."""
        return self._claimed is not None and self._claimed.alone

    @property
    def holds(self) -> bool:
        """Whether another copy of its message is superfluous: this one will be settled or come back."""
        return not self._lost and self._stage is not _Stage.OVER

    def take_over(self, delivery: Delivery) -> None:
        """Another copy of the message came. After a reconnect it is the one that can be acknowledged."""
        if self._delivery.current:
            delivery.ack()
        else:
            self._delivery = delivery

    def end_slice(self) -> None:
        """Ask the worker to save soon."""
        if self._context is not None:
            self._context.end_slice()

    def cancel(self) -> None:
        """The job's end was requested: stop, and end it as cancelled."""
        if self._stage <= _Stage.PERFORMING and not self._cancelled:
            self._cancelled = True
            self._stop()

    def lose(self) -> None:
        """The claim is not current any more: stop, publish nothing."""
        if self._stage in (_Stage.PERFORMING, _Stage.CONFIRMING) and not self._lost:
            self._lost = True
            if self._context is not None:
                self._context.close()
            self._stop()

    def abandon(self) -> None:
        """The process cannot wait any longer: drop everything, give the message back."""
        self._abandoned = True
        if self._whole is not None:
            self._whole.cancel()

    def _stop(self) -> None:
        if self._stoppable is not None:
            self._stoppable.cancel()

    # -- the way of a message -----------------------------------------------------------------------------------------

    def begin(self) -> Deferred[None]:
        """Fires when it is over; never fails."""
        self._whole = Deferred.fromCoroutine(self._perform_all())
        return self._whole

    async def _perform_all(self) -> None:
        try:
            await self._claim_and_perform()
        except Superseded:
            self._delivery.ack()  # whoever has the job now holds a message of its own
        except CancelledError:
            self._delivery.requeue()  # abandoned
        except Exception as error:
            # Nothing above raises anything else, so this is a fault of ours. The recorder buries the message: the job
            # is posted again while its claims are below poison.
            _log.failure("performing {job} failed beside its worker", job=self.call.job)
            self._delivery.dead(f"internal: {type(error).__name__}: {error}").addErrback(comes_again)
        else:
            self._delivery.ack()
        finally:
            self._stage = _Stage.OVER
            if self._context is not None:
                self._context.close()

    async def _claim_and_perform(self) -> None:
        call, means = self.call, self._means
        request = ClaimRequest(call.job, call.slice, self._process, self._delivery.redelivered)
        claimed = await wait_out(means.clock, lambda: means.jobs.claim(request))
        if isinstance(claimed, Refusal):
            _log.debug("{job} is not performed: {refusal}", job=call.job, refusal=claimed.value)
            return
        self._claimed = claimed
        self._stage = _Stage.PERFORMING
        attempt = Attempt(claimed.job, claimed.claim, call.worker, call.limits)
        if not await self._turn(alone=claimed.alone):
            await self._settle(attempt, Cancelled())
            return
        try:
            await self._settle(attempt, await self._outcome(attempt))
        finally:
            self._solitude.leave()

    async def _turn(self, *, alone: bool) -> bool:
        """Whether it may begin, once it may; False if the job was cancelled first."""
        if self._cancelled:
            return False
        if alone:
            self._make_way()
        self._stoppable = self._solitude.enter(alone=alone)
        try:
            await self._stoppable
        except CancelledError:
            if self._stopped_as_cancelled():
                return False
            raise
        finally:
            self._stoppable = None
        return True

    async def _outcome(self, attempt: Attempt) -> Outcome | Cancelled:
        self._context = begin(attempt, self._means)
        self._stoppable = Deferred.fromCoroutine(perform(attempt, self._context))
        try:
            outcome = await self._stoppable
        except CancelledError as error:
            if self._abandoned:
                raise
            return Cancelled() if self._stopped_as_cancelled() else outcome_of(error, attempt.job)
        finally:
            self._stoppable = None
        return Cancelled() if self._stopped_as_cancelled() else outcome

    def _stopped_as_cancelled(self) -> bool:
        """Whether the job's end was requested. Raises Superseded if the claim is not current any more."""
        if self._lost:
            raise Superseded("another worker has the job, or it ended", where=self.call.job)
        return self._cancelled

    async def _settle(self, attempt: Attempt, outcome: Outcome | Cancelled) -> None:
        """Events before state."""
        if self._context is not None:
            self._stage = _Stage.CONFIRMING
            await self._context.settled()
        self._stage = _Stage.SETTLING
        shown = None if self._context is None else self._context.shown
        await settle(attempt, outcome, self._means, progress=shown)


def comes_again(_: Failure) -> None:
    """What becomes of a dead letter that could not be published: the broker was lost, so the message comes again."""
