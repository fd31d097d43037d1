"""The publisher of the outbox, between SQLite and the embedded broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.broker import topology
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.topology import EVENTS
from msgd.jobs.interface import Job, OutboxRow, Problem, State, Submission
from msgd.jobs.outbox import AGAIN_MS, EVENTS_S, GRACE_S, LEASE_MS, Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.messages.envelope import Message
from tests.contract.broker_base import Inbox
from tests.contract.jobs_base import JobsBase

LEASE_S = LEASE_MS / 1000


class Telling(SqlOutbox):
    """The outbox, which tells when something was settled, or taken."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.settled = 0
        self._wanted: tuple[int, Deferred[None]] | None = None

    async def published(self, rows: Any, *, again_ms: int) -> None:
        await super().published(rows, again_ms=again_ms)
        self.settled += len(rows)
        if self._wanted is not None and self.settled >= self._wanted[0]:
            wanted, self._wanted = self._wanted[1], None
            wanted.callback(None)

    async def until_settled(self, count: int) -> None:
        """Returns when so many rows were settled."""
        if self.settled < count:
            wanted: Deferred[None] = Deferred()
            self._wanted = (count, wanted)
            await wanted


class PublisherTests(JobsBase, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'jobs.sqlite3'}"

    async def set_up(self) -> None:
        await super().set_up()
        self.broker = EmbeddedBroker(Path(self.mktemp()) / "broker.sqlite3", reactor=reactor)
        await self.broker.declare_type("crawl")
        await self.broker.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.broker.stop()))
        self.telling = Telling(self.database, clock=self.clock)
        self.publisher = Publisher(self.telling, self.broker, clock=self.clock)
        self.jobs = self.make_jobs()
        self.inbox = Inbox(lambda delivery: delivery.ack())
        await self.consume()

    def make_jobs(self) -> SqlJobs:
        post = self.publisher.post if hasattr(self, "publisher") else None
        return SqlJobs(self.database, clock=self.clock, make_id=lambda _: f"job-{next(self.numbers):04}", post=post)

    async def consume(self) -> None:
        """Take what comes for workers and for the recorder, in the order in which it comes."""
        crawl = topology.job_queues("crawl")
        for queue in (crawl.new.name, crawl.more.name, topology.JOB_EVENTS_QUEUE, topology.TALK_QUEUE):
            await self.broker.consume(queue, self.inbox, prefetch=1000)

    async def started(self) -> None:
        await self.publisher.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.publisher.stop()))

    async def submit(self, jobs: SqlJobs | None = None, **fields: Any) -> Job:
        submission = Submission(**{"type": "crawl", "params": b"{}", **fields})
        return (await (jobs or self.jobs).submit(submission)).job

    async def taken(self, count: int = 1) -> list[tuple[str, str]]:
        """The next messages out of the broker, as (exchange, id of the job or type of the event)."""
        return [
            (one.exchange, one.message.type if one.exchange == EVENTS else one.message.message_id)
            for one in await self.inbox.take(count)
        ]

    def orphaned(self) -> SqlJobs:
        """Jobs of a process that dies between each commit and the publishing."""

        def die(rows: object) -> None:
            del rows

        return SqlJobs(self.database, clock=self.clock, make_id=lambda _: f"job-{next(self.numbers):04}", post=die)

    async def test_at_once(self) -> None:
        """What is committed is published at once, without a sweep, and a confirmed call leaves the outbox."""
        job = await self.submit()
        self.assertEqual(await self.taken(), [(topology.JOBS, job.id)])
        await self.telling.until_settled(1)
        self.assertEqual(await self.outbox.pending(), 0)

    async def test_many(self) -> None:
        """Thousands of rows go out, each once."""
        made = {one.job.id for one in await self.all(*(self.submit_raw() for _ in range(3000)))}
        taken = [job for _, job in await self.taken(3000)]
        await self.telling.until_settled(3000)
        self.assertEqual((len(taken), set(taken)), (3000, made))
        self.assertEqual(await self.outbox.pending(), 0)

    async def submit_raw(self) -> Any:
        return await self.jobs.submit(Submission(type="crawl", params=b"{}"))

    async def test_left_by_the_dead(self) -> None:
        """What a process committed and did not live to publish goes out when its lease is over."""
        job = await self.submit(self.orphaned())
        self.clock.advance(LEASE_S)
        await self.started()
        self.assertEqual(await self.taken(), [(topology.JOBS, job.id)])

    async def test_delayed(self) -> None:
        """What is to go out later goes out when it is due."""
        job = await self.submit(not_before_ms=self.now_ms + 60_000)
        self.clock.advance(60)
        await self.started()
        self.assertEqual(await self.taken(), [(topology.JOBS, job.id)])

    async def test_event_until_recorded(self) -> None:
        """An event that the recorder does not store is published again and again, ever more seldom; stored, no more."""
        await self.jobs.end((await self.claimed(await self.submit())).claim, State.DONE)
        self.assertEqual((await self.taken(2))[1], (EVENTS, "done"))
        await self.publisher.stop()
        due_ms = await self.outbox.next_due_ms()
        self.assertEqual(due_ms, self.now_ms + AGAIN_MS)
        self.clock.advance(AGAIN_MS / 1000)
        await self.started()
        self.assertEqual(await self.taken(), [(EVENTS, "done")])
        await self.publisher.stop()
        self.assertEqual(await self.outbox.next_due_ms(), self.now_ms + 2 * AGAIN_MS)

    async def test_event_recorded_at_once(self) -> None:
        """A confirmed event is left to the recorder for a moment; only what is still there then is written about."""
        claimed = await self.claimed(await self.submit())
        await self.telling.until_settled(1)
        confirm: Deferred[None] = Deferred()
        self.patch(self.broker, "publish", lambda *_, **__: confirm)
        await self.jobs.end(claimed.claim, State.DONE)
        leased_ms = self.now_ms + LEASE_MS
        confirm.callback(None)
        self.clock.advance(EVENTS_S / 2)
        self.assertEqual((await self.outbox.next_due_ms(), self.telling.settled), (leased_ms, 1))
        self.clock.advance(EVENTS_S / 2)
        await self.telling.until_settled(2)
        self.assertEqual(await self.outbox.next_due_ms(), self.now_ms + AGAIN_MS)

    async def test_a_job_in_order(self) -> None:
        """A job's call follows the event before it, and waits for its confirm."""
        confirms = []
        publish = self.broker.publish

        def watched(exchange: str, key: str, message: Message, **kw: Any) -> Deferred[None]:
            confirms.append(f"{exchange} sent")
            return publish(exchange, key, message, **kw).addCallback(lambda _: confirms.append(f"{exchange} confirmed"))

        claimed = await self.claimed(await self.submit())
        await self.telling.until_settled(1)
        self.patch(self.broker, "publish", watched)
        await self.jobs.retry(claimed.claim, Problem("peer", "no"), 0, attempts=8)
        await self.telling.until_settled(2)
        self.assertEqual(
            confirms, ["msgd.events sent", "msgd.events confirmed", "msgd.jobs sent", "msgd.jobs confirmed"]
        )

    async def test_broker_lost(self) -> None:
        """Jobs are accepted while the broker is away; it gets their messages as soon as it is back."""
        await self.started()
        await self.broker.stop()
        made = [(await self.submit()).id for _ in range(3)]
        self.assertEqual(await self.outbox.pending(), 3)
        await self.broker.start()
        await self.consume()
        self.assertEqual(sorted(job for _, job in await self.taken(3)), made)
        await self.telling.until_settled(3)
        self.assertEqual(await self.outbox.pending(), 0)

    async def test_broker_lost_for_long(self) -> None:
        """What waited for the broker longer than its lease is swept up, once."""
        await self.started()
        await self.broker.stop()
        job = await self.submit()
        self.clock.advance(3 * LEASE_S)
        await self.broker.start()
        await self.consume()
        self.clock.advance(1)
        self.assertEqual(await self.taken(), [(topology.JOBS, job.id)])
        await self.telling.until_settled(1)
        self.assertEqual(await self.outbox.pending(), 0)
        self.assertEqual(len(self.inbox.seen), 1)

    async def test_a_row_that_cannot_go(self) -> None:
        """A message that the broker refuses stays, is tried again, and holds up nobody else."""
        await self.jobs.bury(Message(body=b"{}"), reason="r", queue="q", exchange="nowhere", key="k")
        [letter] = await self.jobs.dead_letters()
        await self.jobs.requeue_dead(letter.id)
        job = await self.submit()
        self.assertEqual(await self.taken(), [(topology.JOBS, job.id)])
        await self.telling.until_settled(1)
        self.assertEqual(await self.rows(), [("", "nowhere", "k")])
        self.clock.advance(LEASE_S)
        await self.started()
        other = await self.submit(self.make_sweepable())
        self.clock.advance(1)
        self.assertEqual(await self.taken(), [(topology.JOBS, other.id)])
        self.assertIn(("", "nowhere", "k"), await self.rows())

    def make_sweepable(self) -> SqlJobs:
        """Jobs of a process without a publisher."""
        return SqlJobs(self.database, clock=self.clock, make_id=lambda _: f"job-{next(self.numbers):04}")

    async def test_two_publishers(self) -> None:
        """Two processes share what is due, and publish each row once."""
        made = {(await self.submit(self.make_sweepable())).id for _ in range(20)}
        second = Publisher(self.telling, self.broker, clock=self.clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(second.stop()))
        await self.started()
        await second.start()
        taken = [job for _, job in await self.taken(20)]
        await self.telling.until_settled(20)
        self.assertEqual(set(taken), made)
        self.assertEqual(len(self.inbox.seen), 20)

    async def test_stop(self) -> None:
        """A stop waits for what is under way; what comes after is left to others."""
        await self.started()
        await self.all(*(self.submit_raw() for _ in range(300)))
        await self.publisher.stop()
        self.assertEqual(await self.outbox.pending(), 0)
        await self.submit()
        self.assertEqual(await self.outbox.pending(), 1)
        await self.publisher.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_stop_without_a_broker(self) -> None:
        """A stop does not wait for a broker that is away."""
        await self.started()
        await self.broker.stop()
        await self.submit()
        await self.publisher.stop()
        self.assertEqual(await self.outbox.pending(), 1)

    async def test_stop_with_a_broker_that_does_not_answer(self) -> None:
        """A stop waits a few seconds for confirms, no longer."""
        silent: Deferred[None] = Deferred()
        self.patch(self.broker, "publish", lambda *_, **__: silent)
        await self.submit()
        stopping = Deferred.fromCoroutine(self.publisher.stop())
        self.assertNoResult(stopping)
        self.clock.advance(GRACE_S)
        await stopping
        self.assertEqual(await self.outbox.pending(), 1)

    async def test_never_started(self) -> None:
        """A stop of what was never started is harmless."""
        await self.publisher.stop()
        await self.publisher.stop()

    async def test_more_than_fits(self) -> None:
        """What is more than may be held in memory stays in the table, and goes out when there is room."""
        self.patch(self.publisher, "_full", lambda room=0: True)
        job = await self.submit()
        self.patch(self.publisher, "_full", lambda room=0: False)
        later = OutboxRow(
            id=999, due_ms=self.now_ms + LEASE_MS, job=job.id, exchange=EVENTS, key="job.x", message=Message(body=b"")
        )
        self.publisher.post([later])
        self.assertEqual(self.inbox.seen, [], "a later row of the job does not overtake the one that was left")
        self.clock.advance(LEASE_S)
        await self.started()
        self.assertEqual(await self.taken(), [(topology.JOBS, job.id)])
