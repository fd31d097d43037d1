"""The contract of ``msgd.jobs.interface.Jobs``: cancel, run again, and families of jobs."""

from __future__ import annotations

from typing import Any

from msgd.broker.topology import EVENTS
from msgd.errors import Conflict, Superseded
from msgd.jobs.interface import (
    Beat,
    ClaimRequest,
    Problem,
    Refusal,
    State,
    Submission,
)
from tests.contract.jobs_base import JobsBase


class EndingContract(JobsBase):
    """The part about cancel, run again, and families of jobs."""

    # -- cancel -------------------------------------------------------------------------------------------------------

    async def test_cancel_queued(self) -> None:
        """A queued job ends at once, under a token of its own; its call is taken back."""
        job = await self.submitted(not_before_ms=self.now_ms + 60_000)
        cancelled = await self.jobs.cancel(job.id)
        self.assertEqual((cancelled.state, cancelled.token), (State.CANCELLED, 1))
        self.assertEqual(self.said(), [("cancelled", 1, {})])
        self.assertEqual(await self.rows(), [(job.id, EVENTS, f"job.{job.id}")])
        self.assertEqual(await self.jobs.cancel(job.id), cancelled)
        self.assertEqual(len(self.posted), 1)

    async def test_cancel_running(self) -> None:
        """A running job is flagged, its worker ends it; else whoever cancelled does, and the worker is superseded."""
        claimed = await self.claimed()
        flagged = await self.jobs.cancel(claimed.job.id)
        self.assertEqual((flagged.state, flagged.cancel_requested), (State.RUNNING, True))
        self.assertEqual(self.posted, [])
        self.assertFalse(await self.jobs.end_cancelled(flagged.id, run=2), "another run")
        self.assertTrue(await self.jobs.end_cancelled(flagged.id, run=1))
        self.assertFalse(await self.jobs.end_cancelled(flagged.id, run=1))
        self.assertEqual(self.said(), [("cancelled", 2, {})])
        await self.raises(Superseded, self.jobs.end(claimed.claim, State.CANCELLED))

    async def test_cancel_is_kept_by_the_worker(self) -> None:
        """The worker's own end as cancelled keeps its token."""
        claimed = await self.claimed()
        await self.jobs.cancel(claimed.job.id)
        await self.jobs.end(claimed.claim, State.CANCELLED)
        self.assertEqual(self.said(), [("cancelled", 1, {})])

    async def test_end_cancelled_only_what_was_cancelled(self) -> None:
        """Nobody ends a job from outside that was not flagged."""
        claimed = await self.claimed()
        self.assertFalse(await self.jobs.end_cancelled(claimed.job.id, run=1))
        self.assertFalse(await self.jobs.end_cancelled("nothing", run=1))

    async def test_a_cancelled_slice_does_not_go_on(self) -> None:
        """A save, retry or wait of a job that is to end ends it; a redelivery does too."""
        for attempt in ("save", "retry", "wait", "claim"):
            self.posted.clear()
            claimed = await self.claimed()
            await self.jobs.cancel(claimed.job.id)
            if attempt == "save":
                await self.raises(Superseded, self.jobs.save(claimed.claim, b"1"))
            elif attempt == "retry":
                await self.raises(Superseded, self.jobs.retry(claimed.claim, Problem("a", "b"), 9, attempts=8))
            elif attempt == "wait":
                child = Submission(type="mail", params=b"{}")
                await self.raises(Superseded, self.jobs.wait(claimed.claim, [child], b"1"))
            else:
                answer = await self.jobs.claim(ClaimRequest(claimed.job.id, 0, "w2", redelivered=True))
                self.assertIs(answer, Refusal.CANCELLED)
            self.assertEqual((await self.jobs.get(claimed.job.id)).state, State.CANCELLED, attempt)
            self.assertEqual([type_ for type_, _, _ in self.said()], ["cancelled"], attempt)
            self.assertEqual(await self.calls(claimed.job.id), 0)

    async def test_done_in_spite_of_a_cancel(self) -> None:
        """A job that was done before the cancel reached it is done."""
        claimed = await self.claimed()
        await self.jobs.cancel(claimed.job.id)
        await self.jobs.end(claimed.claim, State.DONE)
        self.assertEqual((await self.jobs.get(claimed.job.id)).state, State.DONE)

    # -- run again ----------------------------------------------------------------------------------------------------

    async def test_run_again(self) -> None:
        """An ended job begins anew; no number of its life restarts, and messages of the old run are stale."""
        claimed = await self.claimed()
        await self.raises(Conflict, self.jobs.run_again(claimed.job.id))
        await self.jobs.beat([Beat(claimed.claim, b"{}")])
        await self.jobs.end(claimed.claim, State.FAILED, problem=Problem("a", "b"))
        ended = self.events()
        self.posted.clear()
        job = await self.jobs.run_again(claimed.job.id)
        self.assertEqual((job.state, job.run, job.slice, job.token), (State.QUEUED, 2, 1, 2))
        self.assertEqual(
            (job.error, job.progress, job.saved, job.ended_ms, job.started_ms), (None, None, None, None, None)
        )
        self.assertEqual(self.posted[-1].key, "crawl")
        await self.record(ended)
        self.assertFalse((await self.jobs.get(job.id)).recorded, "the end of the first run is not that of the second")
        stale = await self.jobs.claim(ClaimRequest(job.id, 0, "w", redelivered=True))
        self.assertIs(stale, Refusal.STALE)
        again = await self.claimed(job)
        await self.jobs.end(again.claim, State.DONE)
        self.assertNotEqual(self.events()[-1].id, ended[0].id)

    # -- children -----------------------------------------------------------------------------------------------------

    async def finish(self, name: str, state: State = State.DONE) -> None:
        await self.jobs.end((await self.claimed(await self.jobs.get(name))).claim, state)

    async def test_wait(self) -> None:
        """A job waits for its children, uncalled; the end of the last calls it, whatever the ends are."""
        claimed = await self.claimed(await self.submitted(owner="ann"))
        children = [Submission(type="mail", params=b"{}", id=name) for name in ("c1", "c2", "c3")]
        await self.jobs.wait(claimed.claim, children, b'{"at":1}')
        parent = await self.jobs.get(claimed.job.id)
        self.assertEqual((parent.state, parent.children, parent.slice), (State.WAITING, 3, 1))
        self.assertEqual(sorted(row.job for row in self.posted), ["c1", "c2", "c3"])
        self.assertEqual({(await self.jobs.get(name)).owner for name in ("c1", "c2", "c3")}, {"ann"})
        self.posted.clear()
        await self.finish("c1")
        await self.jobs.cancel("c2")
        self.assertEqual((await self.jobs.get(parent.id)).children, 1)
        await self.finish("c3", State.FAILED)
        parent = await self.jobs.get(parent.id)
        self.assertEqual((parent.state, parent.children, parent.saved), (State.QUEUED, 0, b'{"at":1}'))
        self.assertEqual([row.job for row in self.posted if not row.is_event], [parent.id])
        self.assertEqual((await self.claimed(parent)).claim.slice, 1)

    async def test_children_that_end_at_once(self) -> None:
        """However many children end at the same time, in however many processes, the parent is called once."""
        names = [f"c{number}" for number in range(12)]
        parent = await self.parent_of(*names)
        claims = [(await self.claimed(await self.jobs.get(name))).claim for name in names]
        both = [self.jobs, self.make_jobs()]
        await self.all(*(both[n % 2].end(claim, State.DONE) for n, claim in enumerate(claims)))
        self.assertEqual((await self.jobs.get(parent.id)).state, State.QUEUED)
        self.assertEqual([row.job for row in self.posted if not row.is_event], [parent.id])

    async def test_wait_for_nothing(self) -> None:
        """No children, or none that has not ended, is a save."""
        claimed = await self.claimed()
        await self.jobs.wait(claimed.claim, [], b"1")
        job = await self.jobs.get(claimed.job.id)
        self.assertEqual((job.state, job.slice, job.saved, await self.calls(job.id)), (State.QUEUED, 1, b"1", 1))

    async def test_wait_for_the_same_children_again(self) -> None:
        """A job that runs again and asks for children that are there waits for those that have not ended."""
        parent = await self.parent_of("c1", "c2")
        claim = (await self.claimed(await self.jobs.get("c2"))).claim
        await self.finish("c1")
        await self.jobs.cancel(parent.id)
        again = await self.claimed(await self.jobs.run_again(parent.id))
        children = [Submission(type="mail", params=b"{}", id=name) for name in ("c1", "c2")]
        await self.jobs.wait(again.claim, children, None)
        self.assertEqual((await self.jobs.get(parent.id)).children, 1)
        await self.jobs.end(claim, State.CANCELLED)
        self.assertEqual((await self.jobs.get(parent.id)).state, State.QUEUED)

    async def test_cancel_takes_the_children_along(self) -> None:
        """Children and their children end with the job, or are flagged; the parent is not called again."""
        parent = await self.parent_of("c1", "c2")
        claimed = await self.claimed(await self.jobs.get("c1"))
        await self.jobs.wait(claimed.claim, [Submission(type="mail", params=b"{}", id="grandchild")], None)
        running = await self.claimed(await self.jobs.get("c2"))
        self.posted.clear()
        await self.jobs.cancel(parent.id)
        states = {name: (await self.jobs.get(name)).state for name in (parent.id, "c1", "grandchild")}
        self.assertEqual(set(states.values()), {State.CANCELLED})
        self.assertTrue((await self.jobs.get("c2")).cancel_requested)
        await self.jobs.end(running.claim, State.CANCELLED)
        self.assertEqual([row for row in self.posted if not row.is_event], [])
        self.assertEqual(len(self.events()), 4)

    async def test_a_child_runs_again(self) -> None:
        """A failed child that runs again is waited for again, and counts down once for each run."""
        parent = await self.parent_of("c1", "c2")
        await self.finish("c1", State.FAILED)
        await self.jobs.run_again("c1")
        self.assertEqual((await self.jobs.get(parent.id)).children, 2)
        await self.finish("c2")
        self.assertEqual((await self.jobs.get(parent.id)).state, State.WAITING)
        await self.finish("c1")
        self.assertEqual((await self.jobs.get(parent.id)).state, State.QUEUED)

    async def test_children_of_an_earlier_run(self) -> None:
        """A child that an earlier run waited for does not count down what the present run waits for."""
        parent = await self.parent_of("old")
        claim = (await self.claimed(await self.jobs.get("old"))).claim
        await self.jobs.cancel(parent.id)
        again = await self.claimed(await self.jobs.run_again(parent.id))
        await self.jobs.wait(again.claim, [Submission(type="mail", params=b"{}", id="new")], None)
        await self.jobs.end(claim, State.CANCELLED)
        self.assertEqual((await self.jobs.get(parent.id)).children, 1)

    async def test_a_family_under_fire(self) -> None:
        """Ends, cancels, beats and revivals of parents and children at the same time, in several processes, come to one
        end of each run."""
        processes = [self.jobs, self.make_jobs(), self.make_jobs()]
        parents = [await self.parent_of(*(f"c{family}-{number}" for number in range(6))) for family in range(4)]
        names = [f"c{family}-{number}" for family in range(4) for number in range(6)]
        claims = [(await self.claimed(await self.jobs.get(name))).claim for name in names]

        async def tried(awaitable: Any) -> bool:
            try:
                await awaitable
            except Superseded:
                return False
            return True

        self.clock.advance(11)
        ended = await self.all(
            *(tried(processes[n % 3].end(claim, State.DONE)) for n, claim in enumerate(claims)),
            *(tried(processes[n % 3].cancel(parent.id)) for n, parent in enumerate(parents[:2])),
            *(tried(process.beat([Beat(claim, b"1") for claim in claims[::-1]])) for process in processes),
            *(tried(process.revive()) for process in processes),
            *(tried(processes[n % 3].end_cancelled(name, 1)) for n, name in enumerate(names)),
            *(tried(processes[n % 3].cancel(name)) for n, name in enumerate(names[::5])),
        )
        self.assertTrue(any(ended[: len(claims)]))
        for name in names:
            await self.jobs.cancel(name)
            await self.jobs.end_cancelled(name, 1)
        for name in names:
            self.assertTrue((await self.jobs.get(name)).ended, name)
        for parent in parents:
            self.assertIn((await self.jobs.get(parent.id)).state, {State.QUEUED, State.CANCELLED})
        ends = [event.topic for event in self.events()]
        self.assertEqual(len(ends), len(set(ends)))
        calls = [row.job for row in self.posted if not row.is_event and row.job in {parent.id for parent in parents}]
        self.assertEqual(len(calls), len(set(calls)))
