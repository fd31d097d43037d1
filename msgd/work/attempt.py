"""One attempt at one slice, after its claim. What is known of it is one frozen record, which goes through three steps.

================  ======================================================  ==========================
step              does                                                    raises
================  ======================================================  ==========================
:func:`begin`     makes the context; tells ``started``
:func:`perform`   the worker's part; an error becomes an outcome          Superseded, CancelledError
:func:`settle`    the job's next state; after the confirms of all events  Superseded, CancelledError
================  ======================================================  ==========================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.errors import MsgdError, Superseded
from msgd.jobs.backoff import backoff_s
from msgd.jobs.interface import Claim, Job, Jobs, Problem, State
from msgd.work.context import AttemptContext, encode
from msgd.work.interface import Continue, Done, Failed, Outcome, Retry, Wait, Worker
from msgd.work.outage import wait_out

_log = Logger()


class Limits(Struct, frozen=True):
    """How jobs of one type are performed: the settings ``[jobs.<type>]``."""

    concurrency: int = 4  # slices at a time in one process
    slice_s: float = 20.0
    attempts: int = 8


class Means(Struct, frozen=True):
    """What the attempts of a process work with."""

    jobs: Jobs
    broker: Broker
    clock: Clock
    now_ms: Callable[[], int]
    jitter: Callable[[], float]  # from 0 to 1


class Attempt(Struct, frozen=True):
    """A claimed slice, and who performs it."""

    job: Job
    claim: Claim
    worker: Worker[Any]
    limits: Limits


class Cancelled(Struct, frozen=True):
    """The outcome of an attempt that was stopped because its job was cancelled."""


def begin(attempt: Attempt, means: Means) -> AttemptContext[Any]:
    """The context of the attempt, its slice begun.

    ``started`` is on its way in every attempt until the first save: a repeat has the same id and adds nothing, and
    whether an earlier attempt came to it before it died is not known.
    """
    context = AttemptContext(
        attempt.job,
        attempt.claim,
        decode=attempt.worker.type.decode,
        slice_s=attempt.limits.slice_s,
        jobs=means.jobs,
        broker=means.broker,
        clock=means.clock,
        now_ms=means.now_ms,
    )
    if attempt.job.saved is None:
        context.tell_started()
    return context


async def perform(attempt: Attempt, context: AttemptContext[Any]) -> Outcome:
    """What the worker makes of the slice."""
    try:
        return await attempt.worker.perform(context)
    except (CancelledError, Superseded):
        raise
    except Exception as error:  # of a worker, which may be anybody's
        return outcome_of(error, attempt.job)


def outcome_of(error: Exception, job: Job) -> Retry | Failed:
    """An error as an outcome: what may pass is tried again, also what nobody expected; the rest fails the job."""
    if not isinstance(error, MsgdError):
        _log.failure("unexpected, in {type} {job}", Failure(error), type=job.type, job=job.id)
        return Retry(MsgdError.code, f"{type(error).__name__}: {error}")
    if error.retryable:
        return Retry(error.code, error.message, error.retry_after)
    return Failed(error.code, f"{error.where}: {error.message}" if error.where else error.message)


async def settle(
    attempt: Attempt, outcome: Outcome | Cancelled, means: Means, *, progress: bytes | None = None
) -> None:
    """Bring the job to its next state, with the last ``progress`` it has shown; waits out an unavailable database.

    An outcome that cannot be written (its result is no JSON, or its ``write`` raises) counts as that error.
    """
    try:
        await _change(attempt, outcome, means, progress)
    except (CancelledError, Superseded):
        raise
    except Exception as error:  # of the outcome's own ``write``, or of a result that is no JSON
        await _change(attempt, outcome_of(error, attempt.job), means, progress)


async def _change(attempt: Attempt, outcome: Outcome | Cancelled, means: Means, progress: bytes | None) -> None:
    """The one conditional update that ends this attempt. A repeat whose first try had an effect raises Superseded."""
    jobs, claim = means.jobs, attempt.claim
    match outcome:
        case Done(result, write):
            body = encode(result, where="result")
            await wait_out(
                means.clock, lambda: jobs.end(claim, State.DONE, result=body, write=write, progress=progress)
            )
        case Continue(state, write, pause_s):
            body = encode(state, where="state")
            await wait_out(means.clock, lambda: jobs.save(claim, body, write, delay_s=pause_s, progress=progress))
        case Wait(children, state, write):
            body = encode(state, where="state")
            await wait_out(means.clock, lambda: jobs.wait(claim, children, body, write, progress=progress))
        case Retry(code, message, after_s):
            problem = Problem(code, message)
            wait_s = backoff_s(attempt.job.attempt + 1, None, means.jitter(), asked_s=after_s)
            limit = attempt.limits.attempts
            await wait_out(means.clock, lambda: jobs.retry(claim, problem, wait_s, attempts=limit, progress=progress))
        case Failed(code, message):
            problem = Problem(code, message)
            await wait_out(means.clock, lambda: jobs.end(claim, State.FAILED, problem=problem, progress=progress))
        case Cancelled():
            await wait_out(means.clock, lambda: jobs.end(claim, State.CANCELLED, progress=progress))
        case _:
            raise TypeError(f"the worker returned {outcome!r}, which is no outcome")
