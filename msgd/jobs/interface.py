"""The contract of the jobs: what was asked, how far it is, and who may go on with it (DESIGN §3).

The database decides, the broker carries. Every method that changes a job is one conditional update; where the change
causes a message, the outbox row stands in the same transaction and is published right after the commit. A method that
returns has committed.

Numbers: ``run`` counts "run again"; ``slice`` names the stretch that one delivery performs; ``token`` is the number of
the latest claim or outside end. None of the three ever restarts for a job.

A :class:`Claim` is the right to go on. Methods that take one raise :class:`~msgd.errors.Superseded` if it is no longer
current: somebody else has the job, or it ended. The caller stops and publishes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from msgd.broker.topology import EVENTS
from msgd.database import Transaction
from msgd.messages.envelope import Message
from msgd.messages.events import Event, Recorded
from msgd.messages.jobs import NORMAL, JobMessage

T = TypeVar("T")


class State(enum.StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"  # for its children, or an approval: neither claimed nor refilled
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


DELAY_MOST_S: Final = 366 * 86400.0
"""How far ahead a job may be put off; more is a schedule."""

ENDED: Final = frozenset({State.DONE, State.FAILED, State.CANCELLED})


class Problem(Struct, frozen=True):
    """Why something failed, as it stands in ``failed`` and ``retrying`` events and in the API."""

    code: str
    message: str


class Job(Struct, frozen=True, kw_only=True):
    """One unit of requested work, as it is shown and performed. Times are milliseconds since 1970, UTC."""

    id: str
    type: str
    params: bytes  # JSON
    state: State
    run: int  # from 1
    slice: int  # from 0
    token: int  # from 0
    attempt: int = 0  # retries since the last save
    claims: int = 0  # claims of this slice
    priority: str = NORMAL
    owner: str = ""  # the principal (``sub``) that submitted it; empty for AMQP clients
    created_ms: int
    not_before_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    heartbeat_ms: int | None = None
    worker: str = ""  # the process that performs it
    progress: bytes | None = None  # JSON, the latest
    saved: bytes | None = None  # JSON, the worker's own state
    result: bytes | None = None  # JSON, of a job that is done
    error: Problem | None = None  # of a failed job, or of the last retry
    cancel_requested: bool = False
    recorded: bool = False  # whether the journal has the event of its end
    parent: str = ""
    parent_slice: int | None = None  # the slice at which the parent waits for this job; None: it does not
    children: int = 0  # not yet ended, of those that this job waits for
    reply_to: str = ""
    correlation_id: str = ""
    traceparent: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def shown_state(self) -> State:
        """The state to tell.

        An end counts once its event is recorded, so that "done" never precedes a result; and between two slices a job
        is queued for msgd only: for whoever watches, it runs.
        """
        if self.ended:
            return self.state if self.recorded else State.RUNNING
        return State.RUNNING if self.between_slices else self.state

    @property
    def between_slices(self) -> bool:
        """Whether it is nobody's just now and goes on by itself, at once or after a pause."""
        return self.state is State.QUEUED and self.started_ms is not None and self.attempt == 0


class Submission(Struct, frozen=True, kw_only=True):
    """A job to be made. ``params`` is JSON that the caller has checked as far as it can."""

    type: str
    params: bytes
    id: str = ""  # empty: one is made
    owner: str = ""
    key: str = ""  # idempotency key of the owner: within its period the same job is returned
    priority: str = NORMAL
    not_before_ms: int | None = None
    reply_to: str = ""
    correlation_id: str = ""
    traceparent: str = ""
    parent: str = ""


class Submitted(Struct, frozen=True):
    """The job that stands for a submission, and whether this call made it."""

    job: Job
    created: bool


class Claim(Struct, frozen=True):
    """The right to perform one slice of one run of a job."""

    job: str
    run: int
    slice: int
    token: int


class ClaimRequest(Struct, frozen=True):
    """A delivered job message that a worker process wants to perform.

    ``worker`` names one life of a process: after a restart it has another name. A process that claims again what it
    performs already has only lost its broker; other claims without a save make a slice suspect (see Claimed.alone).
    """

    job: str
    slice: int
    worker: str
    redelivered: bool


class Claimed(Struct, frozen=True):
    """Go on; ``alone``: this slice has taken processes down, perform nothing beside it."""

    job: Job
    claim: Claim
    alone: bool


class Refusal(enum.Enum):
    """Why a delivered job message is not to be performed. It is acknowledged in every case."""

    STALE = "stale"  # an old copy: the slice went on, or the job ended
    HELD = "held"  # a fresh copy met a fresh heartbeat: somebody is at it
    CANCELLED = "cancelled"  # its cancel was requested: it has been ended by this call
    POISON = "poison"  # one claim too many: it has been ended as failed by this call
    UNKNOWN = "unknown"  # no such job


class Beat(Struct, frozen=True):
    """A sign of life of one running job."""

    claim: Claim
    progress: bytes | None  # JSON


class BeatAnswer(enum.Enum):
    """What the database says to a sign of life."""

    GO_ON = "go on"
    CANCEL = "cancel"  # stop and end it as cancelled
    SUPERSEDED = "superseded"  # stop, it is somebody else's


class JobFilter(Struct, frozen=True, kw_only=True):
    """Which jobs to list, newest first."""

    owner: str | None = None
    state: State | None = None
    type: str | None = None
    parent: str | None = None  # the job whose children they are; empty: those that are nobody's
    before: str | None = None  # the id after which, going back in time, the page begins
    limit: int = 50


class Need(Struct, frozen=True):
    """A right that a job of some type takes: ``action`` (``publish``, ``subscribe`` or ``submit``) on what its params
    name as ``param``, a text or a list of texts. What the params leave out takes none."""

    action: str
    param: str


class TypeInfo(Struct, frozen=True, kw_only=True):
    """A job type that some worker has announced."""

    name: str
    summary: str = ""
    schema: bytes = b"{}"  # JSON Schema of its params
    results: tuple[str, ...] = ("result",)  # the event types that its results are
    needs: tuple[Need, ...] = ()  # of who submits one, beside ``submit:<name>``
    paused: bool = False


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message that nothing could be done with, kept with its reason."""

    id: int
    time_ms: int
    reason: str
    queue: str
    exchange: str
    key: str
    message: Message
    job: str = ""  # the job that it called for, if it has a row


class Reply(Struct, frozen=True):
    """Where the events of a job are also sent."""

    job: str
    reply_to: str
    correlation_id: str


class OutboxRow(Struct, frozen=True, kw_only=True):
    """A message still to be published, written in the transaction that made it true."""

    id: int
    due_ms: int
    job: str
    exchange: str
    key: str
    message: Message  # of an event: with ``msgd-outbox``, this row's id
    sent: int = 0  # how often the broker has confirmed it

    @property
    def is_event(self) -> bool:
        """Whether the recorder deletes it as it stores the event; a call of a worker is deleted at its confirm."""
        return self.exchange == EVENTS


Write = Callable[[Transaction], T]
"""A change of a worker's own tables, made in the same transaction as the check of its claim. It must not block."""


class Jobs(Protocol):
    """What was asked, and how far it is."""

    # -- asking -------------------------------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> Submitted:
        """Make a job and its message. An id that exists, or the owner's key within its period: that job, unchanged."""

    def submit_within(self, transaction: Transaction, submissions: Sequence[Submission]) -> Sequence[OutboxRow]:
        """Make jobs in the transaction of what causes them, so that both stand or neither; give what is returned to
        :meth:`post` once that is committed (only then it is complete). Ids and keys that exist: nothing. Blocking, in a
        database thread. Raises InvalidInput, or DatabaseUnavailable if another process makes the same in this moment:
        roll back, try again."""

    def tell_within(self, transaction: Transaction, events: Sequence[Event]) -> Sequence[OutboxRow]:
        """Put events into the outbox, in the transaction of what they tell of, so that both stand or neither; give what
        is returned to :meth:`post`, as above. Blocking, in a database thread."""

    def post(self, rows: Sequence[OutboxRow]) -> None:
        """Publish what :meth:`submit_within` and :meth:`tell_within` have written, now that it is committed. If that is
        missed, whoever sweeps the outbox does it when the writer's lease is over."""

    def hasten_within(self, transaction: Transaction, job: str, *, leased: bool = True) -> Sequence[OutboxRow]:
        """Let a job and all below it go on at once, as far as they pause between two slices, in the transaction of what
        ends the pause; give what is returned to :meth:`post`, as above (not ``leased``: whoever sweeps publishes it). A
        delay that was asked for and the wait before a retry stay. None of them saves before the transaction ends: the
        ``write`` of a save that is later sees all that the transaction has changed. Blocking, in a database thread."""

    async def adopt(self, message: JobMessage) -> Submitted:
        """Make a job of a foreign client's message, which has no slice; an id that exists: nothing changes."""

    async def get(self, job: str) -> Job:
        """Raises NotFound."""

    async def list(self, which: JobFilter) -> Sequence[Job]:
        """The jobs that there are, at most ``which.limit`` of them and about 4 MiB of params and results."""

    async def cancel(self, job: str) -> Job:
        """Request the end. Queued and waiting jobs end at once; a running one is flagged (the caller signals its
        worker, and calls :meth:`end_cancelled` if that has not helped). Children go with it. Raises NotFound;
        a job that has ended is returned as it is."""

    async def end_cancelled(self, job: str, run: int) -> bool:
        """End a flagged job from outside (``token + 1``); False if it had ended."""

    async def run_again(self, job: str) -> Job:
        """``run + 1`` of an ended job, from its beginning. Raises NotFound, or Conflict if it has not ended."""

    # -- performing ---------------------------------------------------------------------------------------------------
    #
    # ``progress`` is the last that the slice has shown, as JSON: heartbeats may have missed it. None: as it is.

    async def claim(self, request: ClaimRequest) -> Claimed | Refusal:
        """``token + 1`` where the slice is this and the job has not ended."""

    async def beat(self, beats: Sequence[Beat]) -> Sequence[BeatAnswer]:
        """Renew all running jobs of a process, with their progress, in one statement; answers in the same order."""

    async def checkpoint(self, claim: Claim, write: Write[T]) -> T:
        """Change the worker's own tables, the claim still being current. Raises Superseded."""

    async def save(
        self,
        claim: Claim,
        saved: bytes | None,
        write: Write[object] | None = None,
        *,
        delay_s: float = 0.0,
        progress: bytes | None = None,
    ) -> None:
        """End the slice: keep ``saved``, ``slice + 1``, ``attempt = 0``, the continuation in the outbox, due after
        ``delay_s``. Raises InvalidInput if that is less than nothing or more than :data:`DELAY_MOST_S`."""

    async def retry(
        self, claim: Claim, problem: Problem, delay_s: float, *, attempts: int, progress: bytes | None = None
    ) -> bool:
        """Try the slice again after ``delay_s``: ``slice + 1``, ``attempt + 1``, a ``retrying`` event, the continuation
        due then. False, and the job ended as failed with ``problem``, if that would be more than ``attempts``."""

    async def wait(
        self,
        claim: Claim,
        children: Sequence[Submission],
        saved: bytes | None,
        write: Write[object] | None = None,
        *,
        progress: bytes | None = None,
    ) -> None:
        """Make the children and wait for their ends; the last end posts the continuation. No children: a save."""

    async def end(
        self,
        claim: Claim,
        state: State,
        *,
        result: bytes | None = None,
        problem: Problem | None = None,
        write: Write[object] | None = None,
        progress: bytes | None = None,
    ) -> None:
        """End the run, its event in the outbox: ``done`` with the result, ``failed`` with the problem or ``cancelled``.

        The ``write`` of a worker is made in the same transaction."""

    # -- keeping it alive ---------------------------------------------------------------------------------------------

    async def revive(self) -> int:
        """Post again the messages of running jobs whose heartbeat is stale; how many there were."""

    async def refill(self) -> int:
        """Post again the messages of all queued and running jobs: the broker was emptied; how many there were."""

    def record(
        self, transaction: Transaction, recorded: Sequence[Recorded], given: Sequence[Event] = ()
    ) -> Sequence[Reply]:
        """In the recorder's transaction: delete the outbox rows of these events, mark the ends as recorded, and
        tell which of these jobs want replies: that is known when the transaction has ended, not before. ``given``: all
        events of the batch; those that are known or stale are settled too, and their outbox rows go. Called in a
        database thread, and for a small batch on PostgreSQL in the reactor's: it only writes there."""

    async def recorded(self, rows: Sequence[OutboxRow]) -> bool:
        """Whether the journal has had all events of these rows, which stays true whatever is erased there."""

    async def mentioned(self, words: Collection[str]) -> set[str]:
        """Those of these words (of letters, digits, ``_`` and ``-``, such as ids) that stand in the params of jobs that
        have not ended."""

    async def purge(self, ended_before_ms: int, *, limit: int = 500) -> Sequence[str]:
        """Delete jobs that ended before then, with what hangs on them; their ids."""

    # -- types --------------------------------------------------------------------------------------------------------

    async def announce(self, info: TypeInfo) -> None:
        """Say that this type is performed here; an existing pause stays."""

    async def types(self) -> Sequence[TypeInfo]: ...

    async def pause(self, type_: str, paused: bool) -> TypeInfo:
        """Stop or go on taking new slices of a type, in all processes within a heartbeat. Raises NotFound."""

    # -- dead letters -------------------------------------------------------------------------------------------------

    async def bury(self, message: Message, *, reason: str, queue: str, exchange: str, key: str) -> None:
        """Keep a dead message. If it called for the current slice of a job, that is posted again while its claims are
        below poison, else ended as failed; a job message without a row becomes a failed job, with its reply. Burying
        the same message twice (same queue, id and slice, within a day) changes nothing."""

    async def dead_letters(self, *, before: int | None = None, limit: int = 50) -> Sequence[DeadLetter]: ...

    async def requeue_dead(self, letter: int) -> None:
        """Publish it again to where it came from, through the outbox (a job: run again). Raises NotFound."""

    async def drop_dead(self, letter: int) -> None:
        """Raises NotFound."""


class OutboxStore(Protocol):
    """The outbox rows, as the publisher sees them. A job's rows go out in id order."""

    async def take(self, *, lease_ms: int, limit: int) -> Sequence[OutboxRow]:
        """Rows that are due, in id order, leased by moving ``due``: nobody else takes them meanwhile. Of a job whose
        earlier row is not due yet, no later row is taken. Fewer than ``limit`` if their messages are large."""

    async def next_due_ms(self) -> int | None:
        """When the next row will be due."""

    async def published(self, rows: Sequence[OutboxRow], *, again_ms: int) -> None:
        """The broker has confirmed these: rows of job messages are deleted; rows of events become due again at
        ``again_ms``, unless the recorder has deleted them by then."""

    async def pending(self) -> int:
        """How many rows wait; for health and metrics."""
