"""What a worker is: a job type, and a coroutine that performs one slice of a job of that type.

A slice is performed at least once; its effects count once if the worker keeps to this order: ``emit`` (and await) what
the step found, then ``checkpoint`` or return, which saves. Event ids come from the job, the run, the type and ``key``,
so a step that is repeated after a crash adds nothing.

When ``context.slice_over`` turns true (20 s by default, or the process is to stop), return :class:`Continue` soon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred

from msgd.database import Transaction
from msgd.errors import InvalidParams
from msgd.jobs.interface import Job, Need, Submission, TypeInfo
from msgd.messages import json

P = TypeVar("P", bound=Struct)
P_co = TypeVar("P_co", bound=Struct, covariant=True)
T = TypeVar("T")


class JobType(Struct, Generic[P], frozen=True):
    """A kind of job: its name, the form of its params, and which of its event types are results."""

    name: str
    params: type[P]
    results: tuple[str, ...] = ("result",)
    summary: str = ""
    needs: tuple[Need, ...] = ()  # rights of who submits one, beside ``submit:<name>``

    def decode(self, params: bytes) -> P:
        """The params, checked; raises InvalidParams naming the field, or NotJson.

        Checks beyond the form belong in ``__post_init__`` of the params, which raises ValueError.
        """
        return json.decode(params, self.params, where="params", error=InvalidParams)

    def info(self) -> TypeInfo:
        """What is announced of this type."""
        schema = json.encode(msgspec.json.schema(self.params))
        return TypeInfo(name=self.name, summary=self.summary, schema=schema, results=self.results, needs=self.needs)


# -- outcomes of a slice, as values -----------------------------------------------------------------------------------


class Done(Struct, frozen=True):
    """The job is done; ``result`` is any JSON value."""

    result: Any = None
    write: Callable[[Transaction], object] | None = None


class Continue(Struct, frozen=True):
    """The slice is over, the job goes on: ``state`` (any JSON value) is given to the next slice.

    At once, or ``after_s`` seconds from now (a year at most): until then the job is nobody's, takes no slot, and is
    shown as running. Such a pause outlasts restarts.
    """

    state: Any = None
    write: Callable[[Transaction], object] | None = None
    after_s: float = 0.0


class Retry(Struct, frozen=True):
    """Try this slice again later; after ``attempts`` in a row the job fails. ``after_s`` None: exponential backoff."""

    code: str
    message: str
    after_s: float | None = None


class Failed(Struct, frozen=True):
    """The job has failed, and a retry would not help."""

    code: str
    message: str


class Wait(Struct, frozen=True):
    """Make these children and go on, with ``state``, when all of them have ended."""

    children: Sequence[Submission]
    state: Any = None
    write: Callable[[Transaction], object] | None = None


Outcome = Done | Continue | Retry | Failed | Wait
"""An error raised instead counts as Retry if it is a retryable MsgdError or unexpected, else as Failed."""


class Context(Protocol[P_co]):
    """One attempt at one slice, as its worker sees it."""

    @property
    def job(self) -> Job: ...

    @property
    def params(self) -> P_co: ...

    @property
    def state(self) -> Any:
        """What the last slice gave to Continue or Wait; None in the first."""

    @property
    def slice_over(self) -> bool:
        """Time to return Continue: the slice has had its seconds, or the process is stopping."""

    def over(self) -> Deferred[None]:
        """Fires when ``slice_over`` turns true. Cancel it to stop waiting."""

    def emit(self, type_: str, data: Any, *, key: str = "") -> Deferred[None]:
        """Publish an event on the job's topic; fires when it is safe. ``key`` tells events of one type apart.

        Many may be under way at once; they keep their order. Waits out a lost broker. Raises Superseded when the
        claim was lost meanwhile.
        """

    def emit_all(self, events: Iterable[tuple[str, Any, str]]) -> Deferred[None]:
        """Publish several events, type, data and key of each, as :meth:`emit` does, and in this order; fires when all
        are safe. They share messages, which costs a fraction of one each."""

    def publish(self, topic: str, type_: str, data: Any, *, id_: str) -> Deferred[None]:
        """Publish an event on any topic but those of jobs; fires when it is safe, in one order with what is emitted.

        ``id_`` is what tells it from all others of this job type on that topic: the same in every repeat of the step.
        Whoever submits such a job needs a grant for it: see :attr:`JobType.needs`. Fails as ``emit`` does, and with
        InvalidInput for what is no topic, type or id.
        """

    def progress(self, **fields: Any) -> None:
        """Show how far it is (``done``, ``total`` and what else the type has); the latest wins, a few a second."""

    async def checkpoint(self, write: Callable[[Transaction], T], *, confirmed: bool = False) -> T:
        """Change the worker's own tables if the claim is still current, else raise Superseded. Await the confirms of
        the events that led here first.

        ``confirmed``: these were awaited by the caller, or there are none; others may be under way.
        """


class Worker(Protocol[P]):
    """Performs jobs of one type. One instance serves many jobs at once; the runtime cancels ``perform`` (Twisted's
    CancelledError) when the job is cancelled or the claim lost, and the worker lets that pass."""

    @property
    def type(self) -> JobType[P]: ...

    def perform(self, context: Context[P]) -> Awaitable[Outcome]: ...

    async def start(self) -> None:
        """Called before the first job."""

    async def stop(self) -> None:
        """Called after the last, also if ``start`` failed or was cancelled."""
