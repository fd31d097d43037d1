"""The contract of ``msgd.jobs.interface.Jobs``: what keeps jobs alive, what the recorder settles, job types."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import text

from msgd.broker.topology import EVENTS
from msgd.database import Transaction
from msgd.errors import NotFound
from msgd.jobs import rows, upkeep
from msgd.jobs.interface import (
    Beat,
    BeatAnswer,
    ClaimRequest,
    JobFilter,
    Need,
    Refusal,
    State,
    Submission,
    TypeInfo,
)
from msgd.jobs.sql import SqlJobs
from msgd.messages.envelope import Message
from msgd.messages.events import Event
from tests.contract.jobs_base import DAY_S, JobsBase


class UpkeepContract(JobsBase):
    """The part about what keeps jobs alive, what the recorder settles, job types."""

    # -- keeping alive ------------------------------------------------------------------------------------------------

    async def test_revive(self) -> None:
        """A running job whose worker is silent for 10 s is called again, once."""
        silent, living = await self.claimed(), await self.claimed()
        queued = await self.submitted()
        self.clock.advance(9)
        await self.jobs.beat([Beat(living.claim, None)])
        self.assertEqual(await self.jobs.revive(), 0)
        self.clock.advance(2)
        self.assertEqual(await self.jobs.revive(), 1)
        self.assertEqual([(row.job, row.key) for row in self.posted], [(silent.job.id, "crawl.more")])
        self.clock.advance(5)
        await self.jobs.beat([Beat(living.claim, None)])
        self.clock.advance(6)
        self.assertEqual(await self.jobs.revive(), 0)
        self.assertEqual((await self.claimed(silent.job)).claim.token, 2)
        self.assertEqual((await self.jobs.get(queued.id)).state, State.QUEUED)

    async def test_revived_but_only_slow(self) -> None:
        """A worker that was silent and is there after all goes on; the copy meets its heartbeat."""
        slow = await self.claimed()
        self.clock.advance(11)
        await self.jobs.revive()
        self.assertEqual(await self.jobs.beat([Beat(slow.claim, None)]), [BeatAnswer.GO_ON])
        copy = await self.jobs.claim(ClaimRequest(slow.job.id, 0, "w2", redelivered=False))
        self.assertIs(copy, Refusal.HELD)
        await self.jobs.save(slow.claim, b"1")
        self.assertEqual(await self.calls(slow.job.id), 1)

    async def test_revive_ends_what_was_cancelled(self) -> None:
        """A job whose end was requested, of a canceller and of a worker that are both gone, ends."""
        claimed = await self.claimed()
        await self.jobs.cancel(claimed.job.id)
        self.clock.advance(11)
        self.assertEqual(await self.jobs.revive(), 1)
        self.assertEqual(self.said(), [("cancelled", 2, {})])

    async def test_refill(self) -> None:
        """After a broker was emptied every unfinished job is called again, but those that wait or are still to come."""
        queued, delayed = await self.submitted(), await self.submitted(not_before_ms=self.now_ms + 60_000)
        running, waiting = await self.claimed(), await self.parent_of("c1")
        ended = await self.claimed()
        await self.jobs.end(ended.claim, State.DONE)
        await self.database.write(
            lambda transaction: transaction.execute(text(f"DELETE FROM outbox WHERE job <> '{delayed.id}'"))
        )
        self.posted.clear()
        self.assertEqual(await self.jobs.refill(), 3)
        self.assertEqual(sorted(row.job for row in self.posted), sorted([queued.id, running.job.id, "c1"]))
        self.assertEqual(await self.jobs.refill(), 0, "they are in the outbox")
        self.assertEqual((await self.jobs.get(waiting.id)).state, State.WAITING)

    async def test_refill_many(self) -> None:
        """A refill of more jobs than one transaction takes."""
        ids = [job.job.id for job in await self.all(*(self.submit_one() for _ in range(1100)))]
        await self.database.write(lambda transaction: transaction.execute(text("DELETE FROM outbox")))
        self.posted.clear()
        self.assertEqual(await self.jobs.refill(), 1100)
        self.assertEqual(sorted(row.job for row in self.posted), sorted(ids))

    async def submit_one(self) -> Any:
        return await self.jobs.submit(Submission(type="crawl", params=b"{}"))

    # -- the recorder -------------------------------------------------------------------------------------------------

    async def test_record_replies(self) -> None:
        """The recorder is told who else wants the events it stored."""
        job = await self.submitted(reply_to="q", correlation_id="7")
        silent = await self.claimed()
        claimed = await self.claimed(job)
        await self.jobs.end(claimed.claim, State.DONE)
        await self.jobs.end(silent.claim, State.DONE)
        foreign = Event(topic="app.invoice.created", type="created", id="1", source="shop", time_ms=0)
        stranger = Event(topic="job.nothing", type="done", id="1", source="x", time_ms=0, run=1, token=1, outbox=9999)
        replies = await self.record([foreign, *self.events(), stranger])
        self.assertEqual([(reply.job, reply.reply_to, reply.correlation_id) for reply in replies], [(job.id, "q", "7")])
        self.assertEqual(await self.rows(), [])
        self.assertEqual(await self.record([]), [])

    async def test_known_events_leave_the_outbox(self) -> None:
        """An event that was recorded before, and came once more out of another row, takes its row with it."""
        event = Message(body=b"{}", message_id="e", type="created")
        await self.jobs.bury(event, reason="r", queue="q", exchange=EVENTS, key="app.x")
        await self.jobs.requeue_dead((await self.jobs.dead_letters())[0].id)
        given = self.events()
        self.assertEqual(await self.outbox.pending(), 1)
        await self.database.write(lambda transaction: self.jobs.record(transaction, [], given))
        self.assertEqual(await self.outbox.pending(), 0)

    async def test_purge(self) -> None:
        """Jobs that ended long ago, and were recorded, go with their keys; the others stay."""
        old = await self.claimed(await self.submitted(owner="ann", key="k"))
        await self.jobs.end(old.claim, State.DONE)
        await self.record(self.events())
        unrecorded = await self.claimed()
        await self.jobs.end(unrecorded.claim, State.DONE)
        self.clock.advance(2 * DAY_S)
        recent = await self.claimed()
        self.posted.clear()
        await self.jobs.end(recent.claim, State.DONE)
        await self.record(self.events())
        self.assertEqual(await self.jobs.purge(self.now_ms - int(DAY_S * 1000)), [old.job.id])
        self.assertEqual({job.id for job in await self.jobs.list(JobFilter())}, {unrecorded.job.id, recent.job.id})
        keys = text("SELECT count(*) FROM job_keys")
        self.assertEqual(await self.database.read(lambda transaction: transaction.execute(keys).scalar_one()), 0)

    async def test_purge_of_jobs_of_which_much_is_kept(self) -> None:
        """What a program keeps of them goes first, step by step; a job stays until its rows are gone."""
        ended = []
        for _ in range(2):
            job = await self.claimed()
            self.posted.clear()
            await self.jobs.end(job.claim, State.DONE)
            await self.record(self.events())
            ended.append(job.job.id)
        self.clock.advance(2 * DAY_S)
        kept = {ended[0]: 3, ended[1]: 0}

        def forget(_: Transaction, jobs: Collection[str]) -> set[str]:
            left = {job for job in jobs if kept[job]}
            kept.update({job: kept[job] - 1 for job in left})
            return left

        jobs = SqlJobs(self.database, clock=self.clock, forget=[forget])
        before_ms = self.now_ms - int(DAY_S * 1000)
        self.assertEqual(await jobs.purge(before_ms), [ended[1]])
        self.assertEqual([job.id for job in await jobs.list(JobFilter())], [ended[0]])
        self.assertEqual(await jobs.purge(before_ms), [ended[0]])
        self.assertEqual((await jobs.purge(before_ms), kept[ended[0]]), ([], 0))

    async def test_mentioned(self) -> None:
        """Words in params of jobs that have not ended, in whatever state; not parts of words, and nothing else's."""
        words = ["aa-1", "bb_2", "cc", "dd", "ee", "ff"]
        queued = b'{"a": ["x", {"upload": "aa-1"}], "b": "/uploads/bb_2/original"}'
        await self.jobs.submit(Submission(type="mail", params=queued))
        await self.jobs.submit(Submission(type="mail", params=b'{"to": "ccc", "x": "xdd", "ee": 1}'))
        ended = await self.jobs.submit(Submission(type="mail", params=b'{"x": "ff"}'))
        self.assertEqual(await self.jobs.mentioned(words), {"aa-1", "bb_2", "ee", "ff"})
        await self.jobs.cancel(ended.job.id)
        self.assertEqual(await self.jobs.mentioned(words), {"aa-1", "bb_2", "ee"})
        self.assertEqual(await self.jobs.mentioned([]), set())

    async def test_mentioned_by_many(self) -> None:
        """Of more jobs, and larger ones, than are read at a time, each is looked at."""
        self.patch(rows, "PAGE_BYTES", 2000)
        self.patch(upkeep, "PAGE", 7)
        many = [b'{"x": "word%d", "y": "%s"}' % (number, b"z" * 100 * (number % 9)) for number in range(60)]
        await self.all(*(self.jobs.submit(Submission(type="mail", params=params)) for params in many))
        words = {f"word{number}" for number in range(60)}
        self.assertEqual(await self.jobs.mentioned({*words, "other"}), words)

    async def test_mentioned_while_jobs_go_on(self) -> None:
        """They are read a page at a time, each in a transaction of its own, and a job whose state changes between two
        pages is looked at all the same."""
        self.patch(upkeep, "PAGE", 7)
        for number in range(60):
            await self.jobs.submit(Submission(type="mail", params=b'{"x": "word%d"}' % number))
        flip = text("UPDATE jobs SET state = CASE state WHEN 'queued' THEN 'running' ELSE 'queued' END")
        database = self.database
        read, pages = database.read, 0

        async def reading(query: Any) -> Any:
            nonlocal pages
            pages += 1
            found = await read(query)
            await database.write(lambda transaction: transaction.execute(flip))
            return found

        self.patch(database, "read", reading)
        words = {f"word{number}" for number in range(60)}
        self.assertEqual(await self.jobs.mentioned({*words, "other"}), words)
        self.assertGreaterEqual(pages, 60 / 7)

    # -- types --------------------------------------------------------------------------------------------------------

    async def test_types(self) -> None:
        """What workers announce is listed; a pause stays when the type is announced again."""
        crawl = TypeInfo(
            name="crawl",
            summary="Crawl a site",
            schema=b'{"type":"object"}',
            results=("result", "page"),
            needs=(Need("publish", "topic"),),
        )
        await self.jobs.announce(TypeInfo(name="mail"))
        await self.jobs.announce(crawl)
        self.assertEqual(await self.jobs.types(), [crawl, TypeInfo(name="mail")])
        self.assertTrue((await self.jobs.pause("mail", True)).paused)
        await self.jobs.announce(TypeInfo(name="mail", summary="Send mail"))
        self.assertEqual((await self.jobs.types())[1], TypeInfo(name="mail", summary="Send mail", paused=True))
        self.assertFalse((await self.jobs.pause("mail", False)).paused)
        await self.raises(NotFound, self.jobs.pause("nothing", True))
