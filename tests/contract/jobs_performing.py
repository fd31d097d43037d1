"""The contract of ``msgd.jobs.interface.Jobs``: checkpoints, saves, retries, ends."""

from __future__ import annotations

import threading
from typing import cast

from msgspec.structs import replace
from sqlalchemy import func, select, text, update
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from msgd.broker.topology import JOBS
from msgd.database import Transaction
from msgd.errors import InvalidInput, Superseded
from msgd.jobs.batch import LEASE_MS
from msgd.jobs.interface import (
    JobFilter,
    Problem,
    State,
    Submission,
)
from msgd.jobs.sql import SqlJobs
from msgd.jobs.tables import jobs
from tests.contract.jobs_base import JobsBase


class PerformingContract(JobsBase):
    """The part about checkpoints, saves, retries, ends."""

    # -- steps --------------------------------------------------------------------------------------------------------

    async def make_notes(self) -> None:
        await self.database.write(lambda transaction: transaction.execute(text("CREATE TABLE notes (note INTEGER)")))

    async def notes(self) -> int:
        query = select(func.count()).select_from(text("notes"))
        return await self.database.read(lambda transaction: transaction.execute(query).scalar_one())

    @staticmethod
    def note(transaction: Transaction) -> str:
        transaction.execute(text("INSERT INTO notes VALUES (1)"))
        return "noted"

    @staticmethod
    def spoiled(transaction: Transaction) -> None:
        PerformingContract.note(transaction)
        raise LookupError("on purpose")

    async def test_checkpoint(self) -> None:
        """A worker's own change is made while its claim is current, else not; what it raises undoes it."""
        await self.make_notes()
        first = await self.claimed()
        self.assertEqual(await self.jobs.checkpoint(first.claim, self.note), "noted")
        await self.raises(LookupError, self.jobs.checkpoint(first.claim, self.spoiled))
        await self.claimed(first.job, redelivered=True)
        await self.raises(Superseded, self.jobs.checkpoint(first.claim, self.note))
        self.assertEqual(await self.notes(), 1)

    async def test_save(self) -> None:
        """A save ends the slice: the state is kept, the continuation stands in the outbox, alone."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, b'{"at":7}')
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.slice, job.token, job.saved, job.claims), (1, 1, b'{"at":7}', 0))
        self.assertEqual((job.heartbeat_ms, job.worker), (None, ""))
        [row] = self.posted
        self.assertEqual((row.key, row.message.headers["msgd-slice"], row.message.body), ("crawl.more", 1, job.params))
        self.assertEqual(await self.rows(), [(job.id, JOBS, "crawl.more")])
        again = await self.claimed(job)
        self.assertEqual((again.claim.slice, again.claim.token, again.job.saved), (1, 2, b'{"at":7}'))

    async def test_save_with_a_change(self) -> None:
        """The worker's change and the save stand or fall together."""
        await self.make_notes()
        claimed = await self.claimed()
        await self.raises(LookupError, self.jobs.save(claimed.claim, b"1", self.spoiled))
        self.assertEqual((await self.jobs.get(claimed.job.id)).slice, 0)
        await self.jobs.save(claimed.claim, b"1", self.note)
        self.assertEqual((await self.notes(), (await self.jobs.get(claimed.job.id)).slice), (1, 1))
        await self.raises(Superseded, self.jobs.save(claimed.claim, b"2", self.note))
        self.assertEqual(await self.notes(), 1)
        self.assertEqual(len(self.posted), 1)

    async def test_save_for_later(self) -> None:
        """A save may put its continuation off: nobody is called before, whatever is revived or refilled meanwhile, and
        the job is shown as running."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, b"1", delay_s=90)
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.slice, job.attempt, job.saved, job.not_before_ms), (1, 0, b"1", self.now_ms + 90_000))
        self.assertEqual((job.state, job.shown_state, job.heartbeat_ms), (State.QUEUED, State.RUNNING, None))
        self.assertEqual([one.id for one in await self.jobs.list(JobFilter(state=State.RUNNING))], [job.id])
        self.assertEqual(self.posted, [])
        self.clock.advance(89.9)
        self.assertEqual((await self.jobs.revive(), await self.jobs.refill()), (0, 0))
        self.assertEqual(await self.outbox.take(lease_ms=1, limit=9), [])
        self.clock.advance(0.2)
        [row] = await self.outbox.take(lease_ms=1, limit=9)
        self.assertEqual((row.key, row.message.headers["msgd-slice"]), ("crawl.more", 1))
        again = await self.claimed(job)
        await self.jobs.save(again.claim, b"2")
        self.assertIs((await self.jobs.get(job.id)).not_before_ms, None, "what it waited for is over")

    async def test_cancel_of_what_is_for_later(self) -> None:
        """A job that has put itself off ends at once when it is cancelled, and is not called any more."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, b"1", delay_s=90)
        self.assertIs((await self.jobs.cancel(claimed.job.id)).state, State.CANCELLED)
        self.assertEqual(self.said(), [("cancelled", 2, {})])
        self.assertEqual(await self.calls(claimed.job.id), 0)

    async def test_refill_of_what_is_for_later(self) -> None:
        """If even the row of its continuation was lost, a refill writes one that is due when it was to be."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, b"1", delay_s=90)
        await self.database.write(lambda transaction: transaction.execute(text("DELETE FROM outbox")))
        self.assertEqual((await self.jobs.refill(), self.posted), (1, []))
        self.assertEqual(await self.outbox.next_due_ms(), self.now_ms + 90_000)

    # -- hastened ------------------------------------------------------------------------------------------------------

    async def test_hasten(self) -> None:
        """A job that has put itself off and those below it are called at once, each by one call, leased to its writer;
        what waits for a retry or was to begin later keeps its time, and what runs goes on as it was."""
        parent = await self.parent_of("paused", "retried", "delayed", "running")
        for name in ("paused", "retried", "running"):
            held = await self.claimed(await self.jobs.get(name))
            if name == "paused":
                await self.jobs.save(held.claim, b"1", delay_s=90)
            elif name == "retried":
                await self.jobs.retry(held.claim, Problem("a", "b"), 90, attempts=8)
        put_off = update(jobs).where(jobs.c.id == "delayed").values(not_before_ms=self.now_ms + 90_000)
        await self.database.write(lambda transaction: transaction.execute(put_off))
        self.posted.clear()
        before = {job.id: job for job in await self.jobs.list(JobFilter())}
        rows = await self.database.write(lambda transaction: self.jobs.hasten_within(transaction, parent.id))
        self.assertEqual([(row.job, row.due_ms - self.now_ms) for row in rows], [("paused", LEASE_MS)])
        self.assertEqual(self.posted, [])
        self.assertEqual(await self.calls("paused"), 1)
        after = {job.id: job for job in await self.jobs.list(JobFilter())}
        self.assertEqual(after.pop("paused"), replace(before.pop("paused"), not_before_ms=None))
        self.assertEqual(after, before)
        self.assertEqual(await self.database.write(lambda one: self.jobs.hasten_within(one, parent.id)), [])
        again = await self.claimed(await self.jobs.get("paused"))
        self.assertEqual((again.claim.slice, again.job.saved), (1, b"1"))

    async def test_hasten_for_sweepers(self) -> None:
        """Without a lease the call is due at once, for whoever sweeps; in the ``write`` of the very save too."""
        claimed = await self.claimed()

        def hasten(transaction: Transaction) -> None:
            self.jobs.hasten_within(transaction, claimed.job.id, leased=False)

        await self.jobs.save(claimed.claim, b"1", hasten, delay_s=90)
        self.assertIs((await self.jobs.get(claimed.job.id)).not_before_ms, None)
        [row] = await self.outbox.take(lease_ms=1, limit=9)
        self.assertEqual((row.job, row.message.headers["msgd-slice"]), (claimed.job.id, 1))

    async def test_hasten_while_it_saves(self) -> None:
        """A save that comes while the transaction is open is made after it."""
        claimed = await self.claimed()
        begun: Deferred[None] = Deferred()
        go_on, order = threading.Event(), []

        def hasten(transaction: Transaction) -> None:
            self.jobs.hasten_within(transaction, claimed.job.id)
            reactor.callFromThread(begun.callback, None)
            go_on.wait()
            order.append("hastened")

        hastening = Deferred.fromCoroutine(self.database.write(hasten))
        try:
            await begun
            save = self.jobs.save(claimed.claim, b"1", lambda _: order.append("saved"), delay_s=90)
            saving = Deferred.fromCoroutine(save)
            await self.jobs.get(claimed.job.id)
        finally:
            go_on.set()
        await hastening
        await saving
        self.assertEqual(order, ["hastened", "saved"])

    async def test_later_than_ever(self) -> None:
        """A pause of less than nothing, of more than a year, or of no number is refused; the claim stays."""
        claimed = await self.claimed()
        for delay_s in (-1.0, 366 * 86400.0 + 1, float("inf"), float("nan")):
            error = await self.raises(InvalidInput, self.jobs.save(claimed.claim, b"1", delay_s=delay_s))
            self.assertEqual(cast(InvalidInput, error).where, "after_s")
        await self.jobs.save(claimed.claim, b"1")

    async def test_superseded_changes_nothing(self) -> None:
        """Whoever lost the claim can neither save, retry, wait nor end, and posts nothing."""
        lost = (await self.claimed()).claim
        holder = await self.claimed(await self.jobs.get(lost.job), redelivered=True)
        child = Submission(type="mail", params=b"{}")
        for attempt in (
            self.jobs.save(lost, b"1"),
            self.jobs.retry(lost, Problem("a", "b"), 1, attempts=8),
            self.jobs.wait(lost, [child], b"1"),
            self.jobs.end(lost, State.DONE, result=b"1"),
            self.jobs.end(lost, State.FAILED, problem=Problem("a", "b")),
        ):
            await self.raises(Superseded, attempt)
        self.assertEqual(await self.jobs.get(lost.job), holder.job)
        self.assertEqual(self.posted, [])
        self.assertEqual(len(await self.jobs.list(JobFilter())), 1)

    async def test_retry(self) -> None:
        """A retry says so in an event, and calls again when its delay is over."""
        claimed = await self.claimed()
        self.assertTrue(await self.jobs.retry(claimed.claim, Problem("peer", "gone"), 2.5, attempts=8))
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.state, job.attempt, job.slice, job.claims), (State.QUEUED, 1, 1, 0))
        self.assertEqual(job.error, Problem("peer", "gone"))
        [(type_, token, data)] = self.said()
        self.assertEqual((type_, token), ("retrying", 1))
        self.assertEqual((data["code"], data["message"], data["attempt"]), ("peer", "gone", 1))
        self.assertEqual(len(self.posted), 1, "the call is for later")
        self.assertEqual(await self.calls(job.id), 1)
        self.clock.advance(2.4)
        self.assertEqual(await self.outbox.take(lease_ms=1, limit=9), [])
        await self.outbox.published(self.posted, again_ms=self.now_ms + 60_000)
        self.clock.advance(0.2)
        [row] = await self.outbox.take(lease_ms=1, limit=9)
        self.assertEqual((row.key, row.message.headers["msgd-slice"]), ("crawl.more", 1))

    async def test_retries_end(self) -> None:
        """One retry more than ``attempts`` in a row fails the job with its last problem; a save begins a new row."""
        job = await self.submitted()
        for problem in "ab":
            claimed = await self.claimed(job)
            self.assertTrue(await self.jobs.retry(claimed.claim, Problem("peer", problem), 0, attempts=2))
        claimed = await self.claimed(job)
        await self.jobs.save(claimed.claim, None)
        for problem in "cd":
            claimed = await self.claimed(job)
            self.assertTrue(await self.jobs.retry(claimed.claim, Problem("peer", problem), 0, attempts=2))
        claimed = await self.claimed(job)
        self.posted.clear()
        self.assertFalse(await self.jobs.retry(claimed.claim, Problem("peer", "e"), 0, attempts=2))
        ended = await self.jobs.get(job.id)
        self.assertEqual((ended.state, ended.error), (State.FAILED, Problem("peer", "e")))
        self.assertEqual(self.said(), [("failed", claimed.claim.token, {"code": "peer", "message": "e"})])

    async def test_each_retry_has_an_event_of_its_own(self) -> None:
        """Attempt 1 of a later slice is not taken for the attempt 1 that was."""
        job = await self.submitted()
        for _ in range(2):
            await self.jobs.retry((await self.claimed(job)).claim, Problem("a", "b"), 0, attempts=8)
            await self.jobs.save((await self.claimed(job)).claim, None)
        ids = [event.id for event in self.events()]
        self.assertEqual((len(ids), len(set(ids))), (2, 2))

    async def test_a_problem_of_any_text(self) -> None:
        """Whatever an exception says can be stored, and sent."""
        claimed = await self.claimed()
        await self.jobs.end(claimed.claim, State.FAILED, problem=Problem("x", "NUL \0 half \ud800 long" + "x" * 9999))
        job = await self.jobs.get(claimed.job.id)
        assert job.error is not None
        self.assertTrue(job.error.message.startswith("NUL \N{REPLACEMENT CHARACTER} half ? long"))
        self.assertLess(len(job.error.message), 3000)
        self.assertEqual(self.said()[0][2]["message"], job.error.message)

    async def test_end(self) -> None:
        """The end stands with its event; it is shown once the journal has it."""
        await self.make_notes()
        claimed = await self.claimed()
        self.clock.advance(3)
        await self.jobs.end(claimed.claim, State.DONE, result=b'{"n":1}', write=self.note)
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.state, job.result, job.ended_ms, job.error), (State.DONE, b'{"n":1}', self.now_ms, None))
        self.assertEqual((job.recorded, job.shown_state), (False, State.RUNNING))
        self.assertEqual(self.said(), [("done", 1, {"result": {"n": 1}})])
        [row] = self.posted
        self.assertEqual((row.key, row.message.app_id), (f"job.{job.id}", "crawl"))
        self.assertEqual(row.message.headers["msgd-outbox"], row.id)
        await self.raises(Superseded, self.jobs.end(claimed.claim, State.FAILED, problem=Problem("a", "b")))
        self.assertEqual(await self.notes(), 1)
        await self.record(self.events())
        self.assertEqual((await self.jobs.get(job.id)).shown_state, State.DONE)
        self.assertEqual(await self.rows(), [])

    async def test_last_progress(self) -> None:
        """Whatever ends a slice keeps the progress that came with it; without any, the one before stays."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, b"1", progress=b'{"done":1}')
        self.assertEqual((await self.jobs.get(claimed.job.id)).progress, b'{"done":1}')
        claimed = await self.claimed(await self.jobs.get(claimed.job.id))
        await self.jobs.retry(claimed.claim, Problem("a", "b"), 0, attempts=3, progress=b'{"done":2}')
        claimed = await self.claimed(await self.jobs.get(claimed.job.id))
        children = [Submission(type="mail", params=b"{}")]
        await self.jobs.wait(claimed.claim, children, b"1", progress=b'{"done":3}')
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.state, job.progress), (State.WAITING, b'{"done":3}'))
        for given, kept in ((b'{"done":9}', b'{"done":9}'), (None, None)):
            claimed = await self.claimed()
            await self.jobs.end(claimed.claim, State.DONE, progress=given)
            self.assertEqual((await self.jobs.get(claimed.job.id)).progress, kept)

    async def test_last_progress_of_a_job_to_be_cancelled(self) -> None:
        """A save that becomes the requested end keeps its progress too."""
        claimed = await self.claimed()
        await self.jobs.cancel(claimed.job.id)
        await self.raises(Superseded, self.jobs.save(claimed.claim, b"1", progress=b'{"done":4}'))
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.state, job.progress), (State.CANCELLED, b'{"done":4}'))

    async def test_ends_of_many_at_once(self) -> None:
        """Of many that end a job at the same time one does."""
        claimed = await self.claimed()
        second = self.make_jobs()

        async def ends(jobs: SqlJobs, state: State) -> bool:
            try:
                await jobs.end(claimed.claim, state)
            except Superseded:
                return False
            return True

        ended = await self.all(*(ends(jobs, state) for jobs in (self.jobs, second) for state in (State.DONE,) * 4))
        self.assertEqual(ended.count(True), 1)
        self.assertEqual(len(self.events()), 1)

    async def test_end_as_what_is_no_end(self) -> None:
        """A job does not end as running."""
        claimed = await self.claimed()
        await self.raises(InvalidInput, self.jobs.end(claimed.claim, State.RUNNING))

    # -- one call -----------------------------------------------------------------------------------------------------

    async def test_one_call_at_most(self) -> None:
        """Through all of its life a job has at most one call in the outbox, and an ended one has none."""
        job = await self.submitted()
        for _ in range(2):
            await self.jobs.save((await self.claimed(job)).claim, None)
            self.assertEqual(await self.calls(job.id), 1)
            await self.jobs.retry((await self.claimed(job)).claim, Problem("a", "b"), 60, attempts=8)
            self.assertEqual(await self.calls(job.id), 1)
        await self.claimed(job)
        self.clock.advance(60)
        await self.jobs.revive()
        self.assertEqual(await self.calls(job.id), 1)
        await self.jobs.cancel(job.id)
        self.assertEqual(await self.calls(job.id), 0)
        await self.jobs.run_again(job.id)
        self.assertEqual(await self.calls(job.id), 1)
