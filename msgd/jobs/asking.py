"""Asking for jobs: submit, show, cancel, run again."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import CTE, ColumnElement, Select, and_, func, or_, select, tuple_

from msgd.clock import Clock
from msgd.database import Database, Transaction
from msgd.errors import Conflict, DatabaseUnavailable, NotFound
from msgd.jobs import postings, rows, submitting, transitions
from msgd.jobs.batch import Answer, Batch, Step, due_ms
from msgd.jobs.core import Core, Forget, Post, raced
from msgd.jobs.interface import ENDED, Job, JobFilter, OutboxRow, State, Submission, Submitted
from msgd.jobs.submitting import Raced
from msgd.jobs.tables import jobs
from msgd.jobs.transitions import Input
from msgd.messages.events import Event
from msgd.messages.ids import IdMaker, new_id
from msgd.messages.jobs import JobMessage

T = TypeVar("T")


def no_such_job(job: str) -> NotFound:
    return NotFound(f"there is no job {job[:80]!r}", where="id")


class Asking(Core):
    """The part of :class:`~msgd.jobs.interface.Jobs` for those who ask."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        make_id: IdMaker = new_id,
        post: Post | None = None,
        forget: Sequence[Forget] = (),
    ) -> None:
        super().__init__(database, clock=clock, make_id=make_id, post=post, forget=forget)
        self._submissions = database.group(self._submit)

    async def submit(self, submission: Submission) -> Submitted:
        checked = submitting.checked(submission)
        answer = await raced(lambda: self._submissions(checked))
        return self._published(answer)

    def submit_within(self, transaction: Transaction, submissions: Sequence[Submission]) -> Sequence[OutboxRow]:
        posted: builtins.list[OutboxRow] = []
        try:
            self._submit(transaction, [submitting.checked(one) for one in submissions], posted)
        except Raced:
            raise DatabaseUnavailable("another process makes the same job in this moment: try again") from None
        return posted

    def tell_within(self, transaction: Transaction, events: Sequence[Event]) -> Sequence[OutboxRow]:
        posted: builtins.list[OutboxRow] = []
        now_ms, leased = self._now_ms(), self._post is not None
        told = [postings.told(event) for event in events]
        rows.insert_postings(transaction, [(one, due_ms(one, now_ms, leased=leased)) for one in told], posted.extend)
        return posted

    def hasten_within(self, transaction: Transaction, job: str, *, leased: bool = True) -> Sequence[OutboxRow]:
        live = _live(transaction, job)
        batch = Batch(transaction, self._now_ms(), live, leased=leased and self._post is not None)

        def act(batch: Batch) -> None:
            for one in sorted(live):
                found = batch.get(one)
                if found is not None:
                    batch.apply(transitions.hasten(found, batch.now_ms))

        (answer,) = batch.perform([Step((), act)])
        return answer.rows

    def post(self, rows: Sequence[OutboxRow]) -> None:
        self._tell(rows)

    async def adopt(self, message: JobMessage) -> Submitted:
        return await self.submit(
            Submission(
                type=message.type,
                params=message.params,
                id=message.id,
                priority=message.priority,
                reply_to=message.reply_to,
                correlation_id=message.correlation_id,
                traceparent=message.traceparent,
            )
        )

    def _submit(
        self,
        transaction: Transaction,
        submissions: Sequence[Submission],
        posted: builtins.list[OutboxRow] | None = None,
    ) -> Sequence[Answer[Submitted]]:
        """``posted`` is filled with all rows that are to be published at once, before the transaction ends."""
        now_ms = self._now_ms()
        submitted = submitting.submit(transaction, submissions, now_ms, self._make_id)
        calls = [postings.call(one.job) for one in submitted if one.created]
        leased = self._post is not None
        due_now: dict[str, list[OutboxRow]] = {call.job: [] for call in calls}

        def inserted(made: Sequence[OutboxRow]) -> None:
            for call, row in zip(calls, made, strict=True):
                if call.not_before_ms <= now_ms:
                    due_now[row.job].append(row)
                    if posted is not None:
                        posted.append(row)

        rows.insert_postings(transaction, [(call, due_ms(call, now_ms, leased=leased)) for call in calls], inserted)
        return [Answer(one, None, due_now[one.job.id] if one.created else ()) for one in submitted]

    async def get(self, job: str) -> Job:
        found = await self._database.read(lambda transaction: rows.find(transaction, [job]))
        if job not in found:
            raise no_such_job(job)
        return found[job]

    async def list(self, which: JobFilter) -> Sequence[Job]:
        query = _listing(which)

        def look(transaction: Transaction) -> builtins.list[Job]:
            wanted = rows.fitting((job, size) for job, size in transaction.execute(query))
            there = rows.find(transaction, wanted)
            return [there[job] for job in wanted]

        return await self._database.read(look)

    async def cancel(self, job: str) -> Job:
        def change(transaction: Transaction) -> Sequence[Answer[Job | None]]:
            family = _family(transaction, job)
            batch = self._batch(transaction, family)
            while more := _family(transaction, job) - family:  # made until its parent was locked just now
                batch.lock(more)
                family |= more
            return batch.perform([_cancelling(family, job)])

        (answer,) = await self._database.write(change)
        found = self._published(answer)
        if found is None:
            raise no_such_job(job)
        return found

    async def end_cancelled(self, job: str, run: int) -> bool:
        def act(batch: Batch) -> bool:
            found = batch.get(job)
            if found is None or found.run != run or not found.cancel_requested:
                return False
            return batch.apply(transitions.move(found, Input.CANCEL, batch.now_ms)) is not None

        return await self._step((job,), act)

    async def run_again(self, job: str) -> Job:
        def act(batch: Batch) -> Job:
            return again(batch, job)

        return await self._step((job,), act)


def again(batch: Batch, job: str) -> Job:
    """Run a locked job again; raises NotFound or Conflict."""
    found = batch.get(job)
    if found is None:
        raise no_such_job(job)
    moved = batch.apply(transitions.run_again(found, batch.now_ms))
    if moved is None:
        raise Conflict(f"job {job} is {found.state}: only a job that has ended can run again", where="id")
    batch.apply(transitions.child_runs_again(batch.get(found.parent), moved))
    return moved


def _cancelling(family: set[str], job: str) -> Step[Job | None]:
    """The step that cancels a job and all below it; the job as it is then, None if there is none."""

    def act(batch: Batch) -> Job | None:
        # The job itself first: as it does not wait any more, the ends of its children do not call it.
        for one in [job, *sorted(family - {job})]:
            found = batch.get(one)
            if found is not None:
                batch.apply(transitions.cancel(found, batch.now_ms))
        return batch.get(job)

    return Step((), act)


def _tree(job: str) -> CTE:
    """The ids of a job and of all its descendants."""
    tree = select(jobs.c.id).where(jobs.c.id == job).cte("tree", recursive=True)
    return tree.union(select(jobs.c.id).where(jobs.c.parent == tree.c.id, jobs.c.parent != ""))


def _family(transaction: Transaction, job: str) -> set[str]:
    """A job and all its descendants."""
    return set(transaction.execute(select(_tree(job).c.id)).scalars())


def _live(transaction: Transaction, job: str) -> set[str]:
    """Those of them that have not ended."""
    live = select(jobs.c.id).where(jobs.c.id.in_(select(_tree(job).c.id)), jobs.c.ended_ms.is_(None))
    return set(transaction.execute(live).scalars())


def _shown(state: State) -> ColumnElement[bool]:
    """The condition for Job.shown_state; see there."""
    between = and_(jobs.c.state == State.QUEUED, jobs.c.started_ms.is_not(None), jobs.c.attempt == 0)
    if state in ENDED:
        return and_(jobs.c.state == state, jobs.c.recorded)
    if state is State.RUNNING:
        unrecorded = and_(jobs.c.ended_ms.is_not(None), ~jobs.c.recorded)
        return or_(jobs.c.state == State.RUNNING, between, unrecorded)
    if state is State.QUEUED:
        return and_(jobs.c.state == State.QUEUED, ~between)
    return jobs.c.state == state


def _listing(which: JobFilter) -> Select[str, int]:
    """The ids of jobs, and how many bytes each brings along."""
    params, saved, result = (func.coalesce(func.length(jobs.c[name]), 0) for name in ("params", "saved", "result"))
    size = params + saved + result
    query = select(jobs.c.id, size).order_by(jobs.c.created_ms.desc(), jobs.c.id.desc()).limit(which.limit)
    if which.owner is not None:
        query = query.where(jobs.c.owner == which.owner)
    if which.state is not None:
        query = query.where(_shown(which.state))
    if which.type is not None:
        query = query.where(jobs.c.type == which.type)
    if which.parent is not None:
        query = query.where(jobs.c.parent == which.parent)
    if which.parent:
        query = query.where(jobs.c.parent != "")  # the index says so of itself
    if which.before is not None:
        mark = select(jobs.c.created_ms, jobs.c.id).where(jobs.c.id == which.before).scalar_subquery()
        query = query.where(tuple_(jobs.c.created_ms, jobs.c.id) < mark)
    return query
