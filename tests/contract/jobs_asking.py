"""The contract of ``msgd.jobs.interface.Jobs``: submit, adopt, show, list."""

from __future__ import annotations

from typing import Any

from msgd.broker.topology import JOBS
from msgd.errors import InvalidInput, NotFound
from msgd.jobs.interface import (
    JobFilter,
    Problem,
    State,
    Submission,
)
from msgd.messages.jobs import HIGH, JobMessage
from tests.contract.jobs_base import DAY_S, JobsBase


class AskingContract(JobsBase):
    """The part about submit, adopt, show, list."""

    async def test_submit(self) -> None:
        """A submitted job is queued, and its call stands in the outbox, leased to its writer, who is told of it."""
        submitted = await self.jobs.submit(
            Submission(type="crawl", params=b"{}", owner="ann", correlation_id="c", reply_to="r", traceparent="t")
        )
        self.assertTrue(submitted.created)
        job = submitted.job
        self.assertEqual((job.state, job.run, job.slice, job.token), (State.QUEUED, 1, 0, 0))
        self.assertEqual(await self.jobs.get(job.id), job)
        [row] = self.posted
        self.assertEqual((row.exchange, row.key, row.job), (JOBS, "crawl", job.id))
        self.assertEqual((row.message.body, row.message.message_id), (b"{}", job.id))
        self.assertEqual((row.message.reply_to, row.message.correlation_id), ("r", "c"))
        self.assertEqual(row.message.headers, {"msgd-version": 1, "msgd-slice": 0, "traceparent": "t"})
        self.assertGreater(row.due_ms, self.now_ms)
        self.assertEqual(await self.rows(), [(job.id, JOBS, "crawl")])

    async def test_submit_urgent(self) -> None:
        """A job of high priority is called under a key of its own."""
        await self.jobs.submit(Submission(type="mail", params=b"{}", priority=HIGH))
        self.assertEqual(self.posted[0].key, "mail.high")

    async def test_submit_later(self) -> None:
        """A delayed job is not published before its time."""
        later_ms = self.now_ms + 60_000
        await self.jobs.submit(Submission(type="mail", params=b"{}", not_before_ms=later_ms))
        self.assertEqual(self.posted, [])
        self.assertEqual(await self.outbox.next_due_ms(), later_ms)

    async def test_submit_known_id(self) -> None:
        """An id that exists stands for its job, unchanged, and nothing is posted."""
        job = await self.submitted(id="mine")
        again = await self.jobs.submit(Submission(type="mail", params=b"[]", id="mine"))
        self.assertFalse(again.created)
        self.assertEqual(again.job, job)
        self.assertEqual(self.posted, [])

    async def test_submit_same_key(self) -> None:
        """An owner's key stands for one job for a day; another owner's for another."""
        first = await self.jobs.submit(Submission(type="mail", params=b"{}", owner="ann", key="k"))
        again = await self.jobs.submit(Submission(type="mail", params=b"{}", owner="ann", key="k"))
        other = await self.jobs.submit(Submission(type="mail", params=b"{}", owner="bob", key="k"))
        self.assertEqual((again.job.id, again.created), (first.job.id, False))
        self.assertNotEqual(other.job.id, first.job.id)
        self.clock.advance(DAY_S + 1)
        next_day = await self.jobs.submit(Submission(type="mail", params=b"{}", owner="ann", key="k"))
        self.assertTrue(next_day.created)
        self.assertNotEqual(next_day.job.id, first.job.id)

    async def test_submit_at_the_same_time(self) -> None:
        """However many processes submit the same key or id at once, one job is made."""
        others = [self.jobs, self.make_jobs(), self.make_jobs()]
        by_key = Submission(type="mail", params=b"{}", owner="ann", key="k")
        by_id = Submission(type="mail", params=b"{}", id="same")
        made = await self.all(*(jobs.submit(one) for one in (by_key, by_id) for jobs in others for _ in range(5)))
        self.assertEqual(sum(one.created for one in made), 2)
        self.assertEqual(len({one.job.id for one in made}), 2)
        self.assertEqual(len(self.posted), 2)

    async def test_submit_what_no_job_can_be(self) -> None:
        """An id that is no topic word, or text that no database holds, is refused by its field's name."""
        refused: list[tuple[dict[str, Any], str]] = [
            ({"id": "a.b"}, "id"),
            ({"id": "x" * 201}, "id"),
            ({"key": "a\0"}, "key"),
        ]
        for wrong, where in refused:
            error = await self.raises(InvalidInput, self.jobs.submit(Submission(type="t", params=b"{}", **wrong)))
            assert isinstance(error, InvalidInput)
            self.assertEqual(error.where, where)

    async def test_adopt(self) -> None:
        """A foreign client's message becomes a job, once."""
        message = JobMessage(id="theirs", type="crawl", params=b"{}", reply_to="q", correlation_id="7")
        adopted = await self.jobs.adopt(message)
        self.assertTrue(adopted.created)
        self.assertEqual((adopted.job.reply_to, adopted.job.correlation_id, adopted.job.owner), ("q", "7", ""))
        self.assertFalse((await self.jobs.adopt(message)).created)
        self.assertEqual([row.message.headers["msgd-slice"] for row in self.posted], [0])

    async def test_get_unknown(self) -> None:
        """What is not there is not found."""
        await self.raises(NotFound, self.jobs.get("nothing"))
        await self.raises(NotFound, self.jobs.cancel("nothing"))
        await self.raises(NotFound, self.jobs.run_again("nothing"))

    async def test_list(self) -> None:
        """Jobs are listed newest first, by owner, type and shown state, page by page."""
        made = []
        for number in range(5):
            made.append((await self.submitted(owner="ann" if number % 2 else "bob", type=f"t{number % 3}")).id)
            self.clock.advance(1)

        async def listed(**which: Any) -> list[str]:
            return [job.id for job in await self.jobs.list(JobFilter(**which))]

        self.assertEqual(await listed(), made[::-1])
        self.assertEqual(await listed(owner="ann"), [made[3], made[1]])
        self.assertEqual(await listed(type="t0"), [made[3], made[0]])
        self.assertEqual(await listed(limit=2), [made[4], made[3]])
        self.assertEqual(await listed(limit=2, before=made[3]), [made[2], made[1]])
        claimed = await self.claimed(await self.jobs.get(made[2]))
        self.assertEqual(await listed(state=State.RUNNING), [made[2]])
        await self.jobs.save(claimed.claim, None)
        self.assertEqual(await listed(state=State.RUNNING), [made[2]])
        claimed = await self.claimed(await self.jobs.get(made[2]))
        await self.jobs.end(claimed.claim, State.DONE)
        self.assertEqual(await listed(state=State.DONE), [])
        self.assertEqual(await listed(state=State.RUNNING), [made[2]])
        await self.record(self.events())
        self.assertEqual(await listed(state=State.DONE), [made[2]])
        self.assertEqual(await listed(state=State.RUNNING), [])
        self.assertEqual(len(await listed(state=State.QUEUED)), 4)

    async def test_list_of_large_jobs(self) -> None:
        """A page is bounded in bytes too, with one job at least; the next one goes on where it ended."""
        made = [(await self.submitted(params=b'"%s"' % (b"x" * 1_000_000))).id for _ in range(9)]
        listed: list[str] = []
        pages = 0
        while page := await self.jobs.list(JobFilter(before=listed[-1] if listed else None)):
            listed += [job.id for job in page]
            pages += 1
        self.assertEqual((set(listed), len(listed), pages), (set(made), 9, 3))

    async def test_between_slices_a_job_is_shown_running(self) -> None:
        """Whoever watches does not see it queued again between two slices, but does while it waits for a retry."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, None)
        between = await self.jobs.get(claimed.job.id)
        self.assertEqual((between.state, between.shown_state), (State.QUEUED, State.RUNNING))
        claimed = await self.claimed(between)
        await self.jobs.retry(claimed.claim, Problem("peer", "no"), 60, attempts=8)
        self.assertEqual((await self.jobs.get(between.id)).shown_state, State.QUEUED)
