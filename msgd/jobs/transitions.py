"""The rules of a job's life (DESIGN §3): a table, and the few guards that the table cannot say. Pure.

A transition takes the job as it stands, locked, and gives a :class:`Move`: the job as it is to stand, and what is to be
posted in the same transaction. Nothing is decided anywhere else.

Inputs come from the holder of the current claim (``SAVE`` … ``STOP``) or from outside. Those from outside that end a
run or begin a new one make every claim void by ``token + 1``. A job that is revived keeps its token: the worker that
was merely slow may still go on, until the copy of its message is claimed.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from msgd.errors import Poison, Superseded
from msgd.jobs.interface import ENDED, Claim, ClaimRequest, Job, Problem, Refusal, State
from msgd.messages import events

FRESH_MS: Final = 10_000
"""A heartbeat younger than this means that the job is being performed: five beats of 2 s."""

SOLITARY_CLAIM: Final = 3
"""The claim of one slice, without a save between, from which it is performed alone: two may be bad luck."""

POISON_CLAIM: Final = 6
"""The claim that is refused for good: three solitary ones ended without a save, so nothing else took them down."""


class Input(enum.Enum):
    """What can happen to a job."""

    # by the holder of the current claim
    SAVE = enum.auto()
    RETRY = enum.auto()
    WAIT = enum.auto()  # for children
    DONE = enum.auto()
    FAIL = enum.auto()
    STOP = enum.auto()  # cancelled, as was requested
    # from outside
    CLAIM = enum.auto()
    RECLAIM = enum.auto()  # by the very process that performs it: its broker was lost, and the message came again
    FLAG = enum.auto()  # request the end of a running job
    CANCEL = enum.auto()
    POISON = enum.auto()
    REFUSE = enum.auto()  # fail it: nobody performs its type
    RESUME = enum.auto()  # its last child has ended
    REVIVE = enum.auto()  # its worker has gone silent
    REPOST = enum.auto()  # its message was lost, or is wanted sooner
    BURIED = enum.auto()  # its message became a dead letter; that counts as a claim, for it may become one for ever
    RUN_AGAIN = enum.auto()


class Count(enum.Enum):
    """What happens to a number."""

    KEEP = "="
    NEXT = "+1"
    ZERO = "0"


class Line(Struct, frozen=True):
    """One line of the table."""

    sources: frozenset[State]
    to: State | None  # None: as it is
    run: Count
    slice: Count
    token: Count
    attempt: Count
    claims: Count
    event: str = ""  # the type of the event that is posted
    calls: bool = False  # whether a job message is posted


Q, R, W = State.QUEUED, State.RUNNING, State.WAITING
HELD: Final = frozenset({Q, R})
"""States in which a claim can be current: queued too, if the job was revived and its worker was only slow."""
IDLE: Final = frozenset({Q, W})
LIVE: Final = frozenset({Q, R, W})

_, N, Z = Count.KEEP, Count.NEXT, Count.ZERO

# fmt: off
TABLE: Final = {
    #                     from              to         run slice token attempt claims  event             calls
    Input.SAVE:      Line(HELD,             Q,               _,  N,  _,  Z,     Z,      "",               True),
    Input.RETRY:     Line(HELD,             Q,               _,  N,  _,  N,     Z,      events.RETRYING,  True),
    Input.WAIT:      Line(HELD,             W,               _,  N,  _,  Z,     Z),
    Input.DONE:      Line(HELD,             State.DONE,      _,  _,  _,  _,     _,      events.DONE),
    Input.FAIL:      Line(HELD,             State.FAILED,    _,  _,  _,  _,     _,      events.FAILED),
    Input.STOP:      Line(HELD,             State.CANCELLED, _,  _,  _,  _,     _,      events.CANCELLED),
    Input.CLAIM:     Line(HELD,             R,               _,  _,  N,  _,     N),
    Input.RECLAIM:   Line(frozenset({R}),   R,               _,  _,  N,  _,     _),
    Input.FLAG:      Line(frozenset({R}),   R,               _,  _,  _,  _,     _),
    Input.CANCEL:    Line(LIVE,             State.CANCELLED, _,  _,  N,  _,     _,      events.CANCELLED),
    Input.POISON:    Line(HELD,             State.FAILED,    _,  _,  N,  _,     _,      events.FAILED),
    Input.REFUSE:    Line(HELD,             State.FAILED,    _,  _,  N,  _,     _,      events.FAILED),
    Input.RESUME:    Line(frozenset({W}),   Q,               _,  _,  _,  _,     _,      "",               True),
    Input.REVIVE:    Line(frozenset({R}),   Q,               _,  _,  _,  _,     _,      "",               True),
    Input.REPOST:    Line(HELD,             None,            _,  _,  _,  _,     _,      "",               True),
    Input.BURIED:    Line(HELD,             None,            _,  _,  _,  _,     N,      "",               True),
    Input.RUN_AGAIN: Line(ENDED,            Q,               N,  N,  N,  Z,     Z,      "",               True),
}
# fmt: on

_KEEPS_ITS_CALL: Final = frozenset({Input.CLAIM, Input.RECLAIM, Input.FLAG})
"""All others delete the job message still in the outbox: it is for a slice that is over, or posted anew. At a claim it
has just been published, and is deleted with its confirm."""

_INTERRUPTIBLE: Final = frozenset({Input.SAVE, Input.RETRY, Input.WAIT})
"""What a holder may ask that becomes STOP if the end was requested meanwhile: else a delayed retry would outlast it."""


class Move(Struct, frozen=True):
    """A job as it is to stand, and what to post with it."""

    job: Job
    event: str = ""
    calls: bool = False
    clears: bool = False  # delete the job message that may still be in the outbox


def _counted(number: int, count: Count) -> int:
    if count is Count.NEXT:
        return number + 1
    return 0 if count is Count.ZERO else number


def move(job: Job, cause: Input, now_ms: int, **fields: Any) -> Move | None:
    """The line of the table for ``cause``, with further ``fields`` of the job; None if the job's state has none."""
    line = TABLE[cause]
    if job.state not in line.sources:
        return None
    if line.to in ENDED:
        fields |= {"ended_ms": now_ms}
    if line.to is not None and line.to is not State.RUNNING:
        fields |= {"heartbeat_ms": None, "worker": ""}
    after = replace(
        job,
        state=line.to or job.state,
        run=_counted(job.run, line.run),
        slice=_counted(job.slice, line.slice),
        token=_counted(job.token, line.token),
        attempt=_counted(job.attempt, line.attempt),
        claims=_counted(job.claims, line.claims),
        **fields,
    )
    return Move(after, line.event, line.calls, clears=cause not in _KEEPS_ITS_CALL)


# -- performing --------------------------------------------------------------------------------------------------------


def claim(job: Job, request: ClaimRequest, now_ms: int) -> tuple[Move | None, Refusal | None]:
    """What becomes of a delivered job message: a claim, or a refusal (with an end, if it is the job's end)."""
    if job.state not in HELD or job.slice != request.slice:
        return None, Refusal.STALE
    fresh = job.heartbeat_ms is not None and now_ms - job.heartbeat_ms < FRESH_MS
    if fresh and not request.redelivered:
        return None, Refusal.HELD
    if job.cancel_requested:
        return move(job, Input.CANCEL, now_ms), Refusal.CANCELLED
    # Nothing has taken down a process that is alive to claim again: that is not held against the job.
    cause = Input.RECLAIM if fresh and job.worker == request.worker else Input.CLAIM
    if cause is Input.CLAIM and is_poison(job):
        problem = Problem(
            Poison.code,
            f"its slice {job.slice} was begun {job.claims} times, the last {POISON_CLAIM - SOLITARY_CLAIM} alone in a "
            "process, and never came to an end: the process was killed or lost each time",
        )
        return move(job, Input.POISON, now_ms, error=problem), Refusal.POISON
    started = now_ms if job.started_ms is None else job.started_ms
    claimed = move(job, cause, now_ms, worker=request.worker, heartbeat_ms=now_ms, started_ms=started)
    return claimed, None


def is_poison(job: Job) -> bool:
    """Whether the job's slice was begun too often to be begun again."""
    return job.claims + 1 >= POISON_CLAIM


def alone(job: Job) -> bool:
    """Whether a job just claimed is to be performed beside no other."""
    return job.claims >= SOLITARY_CLAIM


def is_current(job: Job | None, held: Claim) -> bool:
    """Whether the holder of a claim may still go on."""
    return (
        job is not None and job.state in HELD and (job.run, job.slice, job.token) == (held.run, held.slice, held.token)
    )


def superseded(held: Claim) -> Superseded:
    """The error for a holder that may not."""
    return Superseded(
        f"claim {held.token} on job {held.job}, run {held.run}, slice {held.slice} is no longer current: "
        "another worker has the job, or it ended",
        where=held.job,
    )


def perform(job: Job | None, held: Claim, cause: Input, now_ms: int, **fields: Any) -> Move:
    """What the holder of ``held`` asks for; a STOP instead, if the end was requested. Raises Superseded."""
    if job is None or not is_current(job, held):
        raise superseded(held)
    if job.cancel_requested and cause in _INTERRUPTIBLE:
        cause, fields = Input.STOP, {name: fields[name] for name in ("progress",) if name in fields}
    moved = move(job, cause, now_ms, **fields)
    assert moved is not None  # a current claim is on a job in HELD, from which the table has all a holder can ask
    return moved


# -- asking ------------------------------------------------------------------------------------------------------------


def cancel(job: Job, now_ms: int) -> Move | None:
    """The request for a job's end: at once where nobody performs it, else a flag; None if it has ended."""
    if job.state is State.RUNNING:
        return None if job.cancel_requested else move(job, Input.FLAG, now_ms, cancel_requested=True)
    return move(job, Input.CANCEL, now_ms, cancel_requested=True)


def hasten(job: Job, now_ms: int) -> Move | None:
    """The next slice now, of a job that pauses between two; None if it does not."""
    if not job.between_slices or job.not_before_ms is None or job.not_before_ms <= now_ms:
        return None
    return move(job, Input.REPOST, now_ms, not_before_ms=None)


def run_again(job: Job, now_ms: int) -> Move | None:
    """A new run from the beginning; None if the present one has not ended."""
    return move(
        job,
        Input.RUN_AGAIN,
        now_ms,
        not_before_ms=None,
        started_ms=None,
        ended_ms=None,
        progress=None,
        saved=None,
        result=None,
        error=None,
        cancel_requested=False,
        recorded=False,
        children=0,
    )


# -- keeping it alive --------------------------------------------------------------------------------------------------


def revive(job: Job, now_ms: int) -> Move | None:
    """A call for another worker if this job's has gone silent (or its end, if that was requested), else None."""
    if job.state is not State.RUNNING or (job.heartbeat_ms is not None and now_ms - job.heartbeat_ms < FRESH_MS):
        return None
    if job.cancel_requested:
        return move(job, Input.CANCEL, now_ms)
    # The worker's name stays: if it was only slow, its next heartbeat makes the job a running one again.
    moved = move(job, Input.REVIVE, now_ms)
    return None if moved is None else replace(moved, job=replace(moved.job, worker=job.worker))


def _waits_for(parent: Job | None, child: Job) -> bool:
    """Whether ``parent`` waits for ``child`` just now: its slice says for which children, also after "run again"."""
    return (
        parent is not None
        and parent.state is State.WAITING
        and child.parent == parent.id
        and child.parent_slice == parent.slice
    )


def child_ended(parent: Job | None, child: Job, now_ms: int) -> Move | None:
    """One child fewer to wait for; after the last one the parent goes on. None: nobody waits for this child."""
    if parent is None or not _waits_for(parent, child):
        return None
    if parent.children > 1:
        return Move(replace(parent, children=parent.children - 1))
    return move(parent, Input.RESUME, now_ms, children=0)


def child_runs_again(parent: Job | None, child: Job) -> Move | None:
    """One child more to wait for, as it will end once more. None: nobody waits for this child."""
    if parent is None or not _waits_for(parent, child):
        return None
    return Move(replace(parent, children=parent.children + 1))
