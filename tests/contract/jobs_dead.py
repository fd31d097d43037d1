"""The contract of ``msgd.jobs.interface.Jobs``: dead letters."""

from __future__ import annotations

from msgd.broker.topology import EVENTS, JOBS
from msgd.errors import NotFound
from msgd.jobs.interface import (
    Job,
    JobFilter,
    State,
    TypeInfo,
)
from msgd.messages.envelope import Message
from tests.contract.jobs_base import JobsBase


class DeadLettersContract(JobsBase):
    """The part about dead letters."""

    async def bury(self, message: Message, *, queue: str = "msgd.jobs.crawl", key: str = "crawl") -> None:
        await self.jobs.bury(message, reason="delivery-limit", queue=queue, exchange=JOBS, key=key)

    async def letters(self) -> list[tuple[str, str]]:
        return [(letter.job, letter.reason) for letter in await self.jobs.dead_letters()]

    def call_of(self, job: Job, slice_: int = 0) -> Message:
        return Message(body=job.params, message_id=job.id, headers={"msgd-slice": slice_, "x-death": [{"count": 1}]})

    async def test_bury_a_call(self) -> None:
        """The current slice of a job is posted again; deaths count as claims, and too many of them end the job."""
        await self.jobs.announce(TypeInfo(name="crawl"))
        job = await self.submitted()
        for number in range(5):
            await self.bury(self.call_of(job))
            self.assertEqual(await self.calls(job.id), 1, number)
        self.assertEqual(len(self.posted), 5)
        await self.bury(self.call_of(job))
        failed = await self.jobs.get(job.id)
        assert failed.error is not None
        self.assertEqual((failed.state, failed.error.code), (State.FAILED, "poison"))
        self.assertEqual(await self.letters(), [(job.id, "delivery-limit")], "the same letter is kept once")

    async def test_bury_a_stale_call(self) -> None:
        """A dead copy for a slice that is over changes nothing, nor does one of a job that ended, or was forgotten."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, None)
        before = await self.jobs.get(claimed.job.id)
        self.posted.clear()
        await self.bury(self.call_of(before, 0))
        self.assertEqual(await self.jobs.get(before.id), before)
        await self.bury(Message(body=b"{}", message_id="forgotten", headers={"msgd-slice": 3}))
        self.assertEqual(self.posted, [])
        self.assertEqual(await self.letters(), [("", "delivery-limit"), (before.id, "delivery-limit")])
        self.assertEqual(len(await self.jobs.list(JobFilter())), 1)

    async def test_bury_a_call_that_no_queue_took(self) -> None:
        """Of an announced type it is tried again a little later; of a type that nobody performs it fails the job."""
        job = await self.submitted()
        await self.jobs.announce(TypeInfo(name="crawl"))
        await self.bury(self.call_of(job), queue="")
        self.assertEqual(self.posted, [])
        self.assertEqual(await self.calls(job.id), 1)
        self.assertEqual(await self.outbox.next_due_ms(), self.now_ms + 5000)
        self.assertEqual((await self.jobs.get(job.id)).claims, 0)
        unknown = await self.submitted(type="unheard")
        await self.bury(self.call_of(unknown), queue="", key="unheard")
        failed = await self.jobs.get(unknown.id)
        assert failed.error is not None
        self.assertEqual((failed.state, failed.error.code), (State.FAILED, "unknown-type"))

    async def test_bury_a_foreign_submission(self) -> None:
        """What a foreign client sent and no job could be made of becomes a failed job, with its reply."""
        message = Message(body=b"not JSON", message_id="theirs", reply_to="q", correlation_id="a\0b")
        for _ in range(2):
            await self.jobs.bury(message, reason="not JSON", queue="msgd.jobs.crawl", exchange=JOBS, key="crawl.high")
        job = await self.jobs.get("theirs")
        assert job.error is not None
        self.assertEqual(
            (job.type, job.state, job.error.message, job.reply_to), ("crawl", State.FAILED, "not JSON", "q")
        )
        self.assertEqual([type_ for type_, _, _ in self.said()], ["failed"])
        self.assertEqual(await self.calls("theirs"), 0)
        self.assertEqual([reply.job for reply in await self.record(self.events())], ["theirs"])
        self.assertEqual(await self.letters(), [("theirs", "not JSON")])

    async def test_bury_what_no_job_is_named_by(self) -> None:
        """A message without an id, or with one that no job can have, becomes a failed job under an id of ours."""
        for message_id in ("", "a.b c"):
            message = Message(body=b"{}", message_id=message_id, reply_to="msgd.events.jobs")
            await self.jobs.bury(message, reason="bad", queue="", exchange=JOBS, key="unheard")
        jobs = await self.jobs.list(JobFilter())
        self.assertEqual([(job.state, job.reply_to) for job in jobs], [(State.FAILED, "")] * 2)

    async def test_bury_an_event(self) -> None:
        """A dead event is kept; a row of the outbox that it came from is given up."""
        claimed = await self.claimed()
        await self.jobs.end(claimed.claim, State.DONE)
        [row] = self.posted
        await self.jobs.bury(row.message, reason="data", queue="msgd.events.jobs", exchange=EVENTS, key=row.key)
        self.assertEqual(await self.rows(), [])
        [letter] = await self.jobs.dead_letters()
        self.assertEqual((letter.message, letter.queue, letter.job), (row.message, "msgd.events.jobs", ""))

    async def test_dead_letters_by_page(self) -> None:
        """Dead letters are listed newest first, page by page, and dropped."""
        for number in range(5):
            event = Message(body=b"{}", message_id=str(number))
            await self.jobs.bury(event, reason=str(number), queue="q", exchange=EVENTS, key="app.x")
        page = await self.jobs.dead_letters(limit=2)
        self.assertEqual([letter.reason for letter in page], ["4", "3"])
        page = await self.jobs.dead_letters(limit=2, before=page[-1].id)
        self.assertEqual([letter.reason for letter in page], ["2", "1"])
        await self.jobs.drop_dead(page[0].id)
        await self.raises(NotFound, self.jobs.drop_dead(page[0].id))
        self.assertEqual([letter.reason for letter in await self.jobs.dead_letters()], ["4", "3", "1", "0"])

    async def test_requeue_an_event(self) -> None:
        """A dead event is published again to where it came from, without the traces of its death."""
        message = Message(
            body=b"{}", message_id="e", type="created", headers={"x-death": [], "msgd-reason": "r", "a": 1}
        )
        await self.jobs.bury(message, reason="r", queue="q", exchange=EVENTS, key="app.x")
        [letter] = await self.jobs.dead_letters()
        await self.jobs.requeue_dead(letter.id)
        [row] = self.posted
        self.assertEqual((row.exchange, row.key), (EVENTS, "app.x"))
        self.assertEqual(row.message.headers, {"a": 1, "msgd-outbox": row.id})
        self.assertEqual(await self.jobs.dead_letters(), [])
        await self.raises(NotFound, self.jobs.requeue_dead(letter.id))

    async def test_requeue_a_job(self) -> None:
        """The job of a dead letter runs again."""
        job = await self.submitted(type="unheard")
        await self.bury(self.call_of(job), queue="", key="unheard")
        [letter] = await self.jobs.dead_letters()
        await self.jobs.requeue_dead(letter.id)
        again = await self.jobs.get(job.id)
        self.assertEqual((again.state, again.run), (State.QUEUED, 2))
        self.assertEqual(self.posted[-1].message.headers["msgd-slice"], again.slice)
