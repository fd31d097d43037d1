"""The contract of ``msgd.jobs.interface.OutboxStore``, run on every implementation; jobs make its rows."""

from __future__ import annotations

from typing import Any

from msgd.broker.topology import EVENTS, JOBS
from msgd.jobs import outbox_sql
from msgd.jobs.interface import Job, OutboxRow, Problem, State, Submission
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.messages import wire
from tests.contract.jobs_base import JobsBase

LEASE_MS = 10_000
LEASE_S = LEASE_MS / 1000


class OutboxContract(JobsBase):
    """What OutboxStore promises."""

    async def left(self, **fields: Any) -> Job:
        """A job whose call nobody publishes: its process has no publisher."""
        jobs = SqlJobs(self.database, clock=self.clock, make_id=lambda _: f"job-{next(self.numbers):04}")
        return (await jobs.submit(Submission(**{"type": "crawl", "params": b"{}", **fields}))).job

    async def take(self, limit: int = 100) -> list[OutboxRow]:
        return list(await self.outbox.take(lease_ms=LEASE_MS, limit=limit))

    async def test_take(self) -> None:
        """Rows that are due come in id order, to one taker at a time until its lease is over."""
        made = [(await self.left()).id for _ in range(5)]
        self.assertEqual(await self.outbox.pending(), 5)
        self.assertEqual([row.job for row in await self.take(3)], made[:3])
        self.assertEqual([row.job for row in await self.take()], made[3:])
        self.assertEqual(await self.take(), [])
        self.clock.advance(LEASE_S)
        self.assertEqual([row.job for row in await self.take()], made)

    async def test_large(self) -> None:
        """Large messages are taken a few at a time, and one in any case."""
        made = [(await self.left(params=b'"%s"' % (b"x" * 400))).id for _ in range(3)]
        self.patch(outbox_sql, "TAKEN_BYTES", 1200)
        self.assertEqual([row.job for row in await self.take()], made[:2])
        self.patch(outbox_sql, "TAKEN_BYTES", 100)
        self.assertEqual([row.job for row in await self.take()], made[2:])

    async def test_taken_as_written(self) -> None:
        """A row has the message that was posted; that of an event names the row."""
        claimed = await self.claimed()
        await self.jobs.end(claimed.claim, State.DONE, result=b"[1]")
        self.clock.advance(LEASE_S)
        [row] = await self.take()
        self.assertEqual((row.job, row.exchange, row.key, row.sent), (claimed.job.id, EVENTS, self.posted[0].key, 0))
        self.assertEqual(row.message, self.posted[0].message)
        event = wire.message_to_event(row.key, row.message, now_ms=0, new_id="")
        self.assertEqual((event.outbox, event.type, event.run, event.token), (row.id, "done", 1, 1))

    async def test_writers_lease(self) -> None:
        """A row is its writer's at first, then anybody's."""
        await self.submitted()
        self.assertEqual(await self.take(), [])
        self.clock.advance(LEASE_S)
        self.assertEqual(len(await self.take()), 1)

    async def test_next_due(self) -> None:
        """When to look next is known."""
        self.assertIsNone(await self.outbox.next_due_ms())
        later_ms = self.now_ms + 5000
        await self.left(not_before_ms=later_ms + 1)
        await self.left(not_before_ms=later_ms)
        self.assertEqual(await self.outbox.next_due_ms(), later_ms)

    async def test_takers_share(self) -> None:
        """Takers at the same time, in several processes, never get the same row, and together get all."""
        made = {(await self.left()).id for _ in range(40)}
        takers = [SqlOutbox(self.database, clock=self.clock) for _ in range(4)]
        taken = await self.all(*(taker.take(lease_ms=LEASE_MS, limit=10) for taker in takers))
        taken += await self.all(*(taker.take(lease_ms=LEASE_MS, limit=40) for taker in takers))
        rows = [row.job for rows in taken for row in rows]
        self.assertEqual((len(rows), set(rows)), (40, made))

    async def test_published_call(self) -> None:
        """A confirmed call is gone."""
        await self.left()
        await self.outbox.published(await self.take(), again_ms=self.now_ms + 30_000)
        self.assertEqual(await self.outbox.pending(), 0)
        await self.outbox.published([], again_ms=0)

    async def test_published_event(self) -> None:
        """A confirmed event is due again after a while, until the recorder has stored it."""
        claimed = await self.claimed()
        await self.jobs.end(claimed.claim, State.DONE)
        again_ms = self.now_ms + 30_000
        await self.outbox.published(self.posted, again_ms=again_ms)
        self.assertEqual(await self.outbox.next_due_ms(), again_ms)
        self.clock.advance(30)
        [row] = await self.take()
        self.assertEqual((row.id, row.sent), (self.posted[0].id, 1))
        await self.record(self.events())
        await self.outbox.published([row], again_ms=again_ms)
        self.assertEqual(await self.outbox.pending(), 0)

    async def test_order_within_a_job(self) -> None:
        """A job's call is not taken before its earlier event, which somebody else publishes, was confirmed."""
        claimed = await self.claimed()
        await self.jobs.retry(claimed.claim, Problem("a", "b"), 1, attempts=8)
        self.clock.advance(2)
        self.assertEqual(await self.take(), [], "the event is its writer's still")
        self.assertEqual(await self.outbox.next_due_ms(), self.posted[0].due_ms, "which is worth waiting for")
        self.clock.advance(LEASE_S)
        self.assertEqual([row.exchange for row in await self.take()], [EVENTS, JOBS], "both in the same hands")

    async def test_confirmed_events_hold_nothing_up(self) -> None:
        """A confirmed event that the recorder has not stored yet lets the call after it go."""
        claimed = await self.claimed()
        await self.jobs.retry(claimed.claim, Problem("a", "b"), 1, attempts=8)
        await self.outbox.published(self.posted, again_ms=self.now_ms + 30_000)
        self.clock.advance(2)
        self.assertEqual([row.exchange for row in await self.take()], [JOBS])

    async def test_rows_that_fail_do_not_hold_up_others(self) -> None:
        """Who takes a few at a time gets every row in its turn, however often the first ones fail."""
        made = {(await self.left()).id for _ in range(6)}
        seen: set[str] = set()
        for _ in range(3):
            self.clock.advance(LEASE_S)
            seen |= {row.job for row in await self.take(2)}
        self.assertEqual(seen, made)
