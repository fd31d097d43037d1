"""A group's jobs in one transaction: locked together, moved one request after the other, written together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from msgd.database import Transaction
from msgd.errors import MsgdError
from msgd.jobs import postings, rows, statements
from msgd.jobs.interface import Job, OutboxRow
from msgd.jobs.postings import Posting
from msgd.jobs.transitions import Move, child_ended

T = TypeVar("T")

LEASE_MS: Final = 5_000
"""For which a row is its writer's (or a sweeper's) alone to publish: longer than a broker takes to confirm, short
enough for a job whose writer died between commit and publish."""


class Step(Struct, Generic[T], frozen=True):
    """One request about jobs: which ones to lock (their parents come along), and what to do with them.

    An error that ``act`` raises on purpose is told to its caller; what it had changed before stands.
    """

    jobs: tuple[str, ...]
    act: Callable[[Batch], T]


class Answer(Struct, Generic[T], frozen=True):
    """What a step came to, and the rows that are to be published once it is committed (and are there by then)."""

    value: T | None
    error: MsgdError | None
    rows: Sequence[OutboxRow]

    def result(self) -> T:
        """The value, or its error raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only beside an error, or where T has it


class _Written(Struct):
    """A posting of this batch: which step made it, and whether a later one took it back."""

    step: int
    posting: Posting
    withdrawn: bool = False


class Batch:
    """The jobs of a group, as they stand after the steps so far."""

    def __init__(self, transaction: Transaction, now_ms: int, jobs: Iterable[str], *, leased: bool) -> None:
        """``leased``: the process publishes what is due by itself; else whoever sweeps does."""
        self.transaction = transaction
        self.now_ms = now_ms
        self._before = rows.locked(transaction, jobs)
        self._jobs = dict(self._before)
        self._leased = leased
        self._cleared: set[str] = set()
        self._postings: list[_Written] = []
        self._calls: dict[str, _Written] = {}  # those of the postings that call a job, one a job at most
        self._step = 0

    def get(self, job: str) -> Job | None:
        """A job as it stands; None if there is none (or it was not among those locked)."""
        return self._jobs.get(job)

    def lock(self, jobs: Iterable[str]) -> None:
        """Lock further jobs: for what only turned out on the way, as it may wait for a group that waits for this one
        (which the database notices; one of the two is tried again)."""
        missing = set(jobs) - self._before.keys()
        if missing:
            found = rows.locked(self.transaction, missing)
            for job, there in found.items():
                if job not in self._before:
                    self._before[job] = self._jobs[job] = there

    def apply(self, move: Move | None) -> Job | None:
        """Make a job what a transition says; the parent of one that ends is told. Returns the job; None for no move."""
        if move is None:
            return None
        before, job = self._jobs[move.job.id], move.job
        self._jobs[job.id] = job
        if move.clears:
            self._withdraw_call(job.id)
        if move.event:
            self.post(postings.event(job, move.event, self.now_ms))
        if move.calls:
            self.post(postings.call(job))
        if job.ended and not before.ended and job.parent:
            self.apply(child_ended(self._jobs.get(job.parent), job, self.now_ms))
        return job

    def add(self, job: Job) -> None:
        """Bring in a job that was just inserted, with its call."""
        self._before[job.id] = self._jobs[job.id] = job
        self.post(postings.call(job))

    def amend(self, job: Job) -> None:
        """Change fields that no transition is about."""
        self._jobs[job.id] = job

    def post(self, posting: Posting) -> None:
        """Put a message into the outbox."""
        written = _Written(self._step, posting)
        self._postings.append(written)
        if posting.is_call:
            self._calls[posting.job] = written

    def _withdraw_call(self, job: str) -> None:
        self._cleared.add(job)
        written = self._calls.pop(job, None)
        if written is not None:
            written.withdrawn = True

    def perform(self, steps: Sequence[Step[Any]]) -> list[Answer[Any]]:
        """Perform the steps in order, then write everything."""
        results: list[tuple[Any, MsgdError | None]] = []
        for self._step, step in enumerate(steps):
            try:
                results.append((step.act(self), None))
            except MsgdError as error:
                results.append((None, error))
        due_now: list[list[OutboxRow]] = [[] for _ in steps]
        self._write(due_now)
        return [Answer(value, error, rows) for (value, error), rows in zip(results, due_now, strict=True)]

    def _write(self, due_now: Sequence[list[OutboxRow]]) -> None:
        """Write what changed. The rows to publish at once come into ``due_now``, to the step that made them, before the
        transaction ends."""
        changes = {
            name: rows.changed(self._before[name], job)
            for name, job in self._jobs.items()
            if job is not self._before[name]
        }
        rows.update_jobs(self.transaction, changes)
        if self._cleared:
            statements.delete_calls(self.transaction, self._cleared)
        standing = [written for written in self._postings if not written.withdrawn]
        due = [(written.posting, due_ms(written.posting, self.now_ms, leased=self._leased)) for written in standing]

        def inserted(written_rows: Sequence[OutboxRow]) -> None:
            for written, row in zip(standing, written_rows, strict=True):
                if written.posting.not_before_ms <= self.now_ms:
                    due_now[written.step].append(row)

        rows.insert_postings(self.transaction, due, inserted)


def due_ms(posting: Posting, now_ms: int, *, leased: bool) -> int:
    """When a new row is due for sweepers: after its writer's lease, or when it was to be published all along."""
    if posting.not_before_ms > now_ms:
        return posting.not_before_ms
    return now_ms + LEASE_MS if leased else now_ms
