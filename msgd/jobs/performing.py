"""Performing jobs: claim, show signs of life, save, end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from msgd.database import Transaction
from msgd.errors import InvalidInput
from msgd.jobs import statements, submitting, transitions
from msgd.jobs.batch import Answer, Batch, Step
from msgd.jobs.core import Core, raced
from msgd.jobs.interface import (
    DELAY_MOST_S,
    ENDED,
    Beat,
    BeatAnswer,
    Claim,
    Claimed,
    ClaimRequest,
    Job,
    Problem,
    Refusal,
    State,
    Submission,
    Write,
)
from msgd.jobs.postings import kept
from msgd.jobs.transitions import Input, superseded

T = TypeVar("T")

_END_INPUTS = {State.DONE: Input.DONE, State.FAILED: Input.FAIL, State.CANCELLED: Input.STOP}


class Performing(Core):
    """The part of :class:`~msgd.jobs.interface.Jobs` for those who perform."""

    async def claim(self, request: ClaimRequest) -> Claimed | Refusal:
        def act(batch: Batch) -> Claimed | Refusal:
            job = batch.get(request.job)
            if job is None:
                return Refusal.UNKNOWN
            move, refusal = transitions.claim(job, request, batch.now_ms)
            claimed = batch.apply(move)
            if refusal is not None:
                return refusal
            assert claimed is not None
            held = Claim(claimed.id, claimed.run, claimed.slice, claimed.token)
            return Claimed(claimed, held, transitions.alone(claimed))

        return await self._step((request.job,), act)

    async def beat(self, beats: Sequence[Beat]) -> Sequence[BeatAnswer]:
        if not beats:
            return []

        def act(batch: Batch) -> Sequence[BeatAnswer]:
            return [_renewed(batch, beat) for beat in beats]

        return await self._step([beat.claim.job for beat in beats], act)

    async def checkpoint(self, claim: Claim, write: Write[T]) -> T:
        def change(transaction: Transaction) -> T:
            if not statements.is_current(transaction, claim):
                raise superseded(claim)
            return write(transaction)

        return await self._database.write(change)

    async def save(
        self,
        claim: Claim,
        saved: bytes | None,
        write: Write[object] | None = None,
        *,
        delay_s: float = 0.0,
        progress: bytes | None = None,
    ) -> None:
        if not 0 <= delay_s <= DELAY_MOST_S:  # neither is NaN
            raise InvalidInput(f"a job goes on after 0 to {DELAY_MOST_S:.0f} seconds, not {delay_s}", where="after_s")
        # What it was put off by before is over.
        due_ms = self._now_ms() + round(delay_s * 1000) if delay_s else None
        await self._go_on(claim, Input.SAVE, write, saved=saved, not_before_ms=due_ms, **_shown(progress))

    async def retry(
        self, claim: Claim, problem: Problem, delay_s: float, *, attempts: int, progress: bytes | None = None
    ) -> bool:
        fields = {"error": kept(problem), **_shown(progress)}

        def act(batch: Batch) -> Job:
            job = batch.get(claim.job)
            if job is not None and job.attempt >= attempts:
                move = transitions.perform(job, claim, Input.FAIL, batch.now_ms, **fields)
            else:
                again_ms = batch.now_ms + int(max(delay_s, 0) * 1000)
                move = transitions.perform(job, claim, Input.RETRY, batch.now_ms, not_before_ms=again_ms, **fields)
            return _applied(batch, move)

        job = await self._step((claim.job,), act)
        if job.state is State.CANCELLED:
            raise superseded(claim)
        return job.state is not State.FAILED

    async def wait(
        self,
        claim: Claim,
        children: Sequence[Submission],
        saved: bytes | None,
        write: Write[object] | None = None,
        *,
        progress: bytes | None = None,
    ) -> None:
        for child in children:
            submitting.checked(child)

        def act(batch: Batch) -> Job:
            return self._wait(batch, claim, children, {"saved": saved, **_shown(progress)})

        step = Step((claim.job, *(child.id for child in children if child.id)), act)

        def change(transaction: Transaction) -> Answer[Job]:
            answer: Answer[Job] = self._perform(transaction, [step])[0]
            if answer.error is None and write is not None:
                write(transaction)
            return answer

        job = self._published(await raced(lambda: self._database.write(change)))
        if job.ended:
            raise superseded(claim)

    def _wait(self, batch: Batch, claim: Claim, children: Sequence[Submission], fields: dict[str, Any]) -> Job:
        job = batch.get(claim.job)
        waiting = transitions.perform(job, claim, Input.WAIT, batch.now_ms).job  # raises Superseded
        if waiting.ended:
            return _applied(batch, transitions.perform(job, claim, Input.STOP, batch.now_ms))
        theirs = [
            replace(
                child,
                parent=claim.job,
                owner=child.owner or waiting.owner,
                traceparent=child.traceparent or waiting.traceparent,
            )
            for child in children
        ]
        submitted = submitting.submit(
            batch.transaction, theirs, batch.now_ms, self._make_id, parent_slice=waiting.slice
        )
        batch.lock(one.job.id for one in submitted if not one.created)
        pending: set[str] = set()
        for one in submitted:
            if one.created:
                batch.add(one.job)
                pending.add(one.job.id)
                continue
            # An earlier run of this job has asked for it: it is waited for if it is this job's, and has not ended.
            there = batch.get(one.job.id)
            if there is not None and there.parent == claim.job and not there.ended:
                batch.amend(replace(there, parent_slice=waiting.slice))
                pending.add(there.id)
        cause = Input.WAIT if pending else Input.SAVE
        return _applied(batch, transitions.perform(job, claim, cause, batch.now_ms, children=len(pending), **fields))

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
        if state not in ENDED:
            raise InvalidInput(f"a job does not end as {state}", where="state")
        fields: dict[str, Any] = {"result": result if state is State.DONE else None, **_shown(progress)}
        # What a last retry had to say is over with a job that is done.
        fields["error"] = kept(problem or Problem("failed", "")) if state is State.FAILED else None

        def act(batch: Batch) -> Job:
            move = transitions.perform(batch.get(claim.job), claim, _END_INPUTS[state], batch.now_ms, **fields)
            return _applied(batch, move)

        await self._step_alone((claim.job,), act, write)

    async def _go_on(self, claim: Claim, cause: Input, write: Write[object] | None, **fields: Any) -> None:
        def act(batch: Batch) -> Job:
            return _applied(batch, transitions.perform(batch.get(claim.job), claim, cause, batch.now_ms, **fields))

        job = await self._step_alone((claim.job,), act, write)
        if job.ended:  # its end had been requested
            raise superseded(claim)


def _shown(progress: bytes | None) -> dict[str, Any]:
    return {} if progress is None else {"progress": progress}


def _applied(batch: Batch, move: transitions.Move) -> Job:
    job = batch.apply(move)
    assert job is not None
    return job


def _renewed(batch: Batch, beat: Beat) -> BeatAnswer:
    job = batch.get(beat.claim.job)
    if job is None or not transitions.is_current(job, beat.claim):
        return BeatAnswer.SUPERSEDED
    progress = job.progress if beat.progress is None else beat.progress
    # Queued: it was revived, and its worker is there after all.
    batch.amend(replace(job, state=State.RUNNING, heartbeat_ms=batch.now_ms, progress=progress))
    return BeatAnswer.CANCEL if job.cancel_requested else BeatAnswer.GO_ON
