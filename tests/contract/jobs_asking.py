"""The contract of ``msgd.jobs.interface.Jobs``: submit, adopt, show, list."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace
from sqlalchemy import text

from msgd.broker.topology import EVENTS, JOBS
from msgd.database import Transaction
from msgd.errors import InvalidInput, NotFound
from msgd.jobs.batch import LEASE_MS
from msgd.jobs.interface import (
    JobFilter,
    OutboxRow,
    Problem,
    State,
    Submission,
)
from msgd.jobs.sql import SqlJobs
from msgd.messages.events import Event
from msgd.messages.jobs import HIGH, JobMessage
from tests.contract.jobs_base import DAY_S, JobsBase


class AskingContract(JobsBase):
    """The part about submit, adopt, show, list."""

    async def test_submit_within(self) -> None:
        """Jobs may be made in somebody's own transaction: with what else it writes, or not at all; known ones once."""
        await self.database.write(lambda transaction: transaction.execute(text("CREATE TABLE notes (note INTEGER)")))
        wanted = [Submission(type="mail", params=b"{}", id=name) for name in ("a", "b", "a")]
        later = Submission(type="mail", params=b"{}", id="c", not_before_ms=self.now_ms + 1000)

        def change(transaction: Transaction, *, spoil: bool = False) -> Sequence[OutboxRow]:
            transaction.execute(text("INSERT INTO notes VALUES (1)"))
            rows = self.jobs.submit_within(transaction, [*wanted, later])
            if spoil:
                raise LookupError("on purpose")
            return rows

        await self.raises(LookupError, self.database.write(partial(change, spoil=True)))
        self.assertEqual((await self.rows(), await self.jobs.list(JobFilter())), ([], []))
        rows = await self.database.write(change)
        self.assertEqual(sorted(row.job for row in rows), ["a", "b"])
        self.assertEqual(self.posted, [])
        self.jobs.post(rows)
        self.assertEqual(self.posted, list(rows))
        self.assertEqual(await self.database.write(change), [])
        self.assertEqual([await self.calls(job) for job in "abc"], [1, 1, 1])
        bad = Submission(type="mail", params=b"{}", id="a b")
        await self.raises(InvalidInput, self.database.write(lambda one: self.jobs.submit_within(one, [bad])))

    async def test_tell_within(self) -> None:
        """Events may be told in somebody's own transaction: with what else it writes, or not at all; in their order,
        each leased to its writer and naming its row."""
        await self.database.write(lambda transaction: transaction.execute(text("CREATE TABLE notes (note INTEGER)")))
        events = [
            Event(topic="user.ann", type="told", id=f"e{number}", source="s", time_ms=number, data=b'{"a":"\xc3\xa9"}')
            for number in range(3)
        ]

        def change(transaction: Transaction, *, spoil: bool = False) -> Sequence[OutboxRow]:
            transaction.execute(text("INSERT INTO notes VALUES (1)"))
            rows = self.jobs.tell_within(transaction, events)
            if spoil:
                raise LookupError("on purpose")
            return rows

        await self.raises(LookupError, self.database.write(partial(change, spoil=True)))
        self.assertEqual(await self.rows(), [])
        rows = await self.database.write(change)
        self.assertEqual(await self.rows(), [("", EVENTS, "user.ann")] * 3)
        self.assertEqual([row.due_ms - self.now_ms for row in rows], [LEASE_MS] * 3)
        self.assertEqual(self.posted, [])
        self.jobs.post(rows)
        self.assertEqual([replace(event, outbox=None) for event in self.events()], events)
        self.assertEqual([event.outbox for event in self.events()], [row.id for row in rows])
        self.assertEqual(list(await self.outbox.take(lease_ms=1, limit=9)), [])
        self.clock.advance(LEASE_MS / 1000)
        self.assertEqual(
            [(row.id, row.message) for row in await self.outbox.take(lease_ms=1, limit=9)],
            [(row.id, row.message) for row in rows],
        )
        await self.record(self.events())
        self.assertEqual(await self.rows(), [])
        self.assertEqual(await self.database.write(lambda transaction: self.jobs.tell_within(transaction, [])), [])

    async def test_recorded(self) -> None:
        """Told events are known to be recorded when all of them are."""
        events = [Event(topic="user.ann", type="told", id=f"e{n}", source="s", time_ms=n, data=b"{}") for n in range(3)]
        rows = await self.database.write(lambda transaction: self.jobs.tell_within(transaction, events))
        self.jobs.post(rows)
        self.assertFalse(await self.jobs.recorded(rows))
        await self.record(self.events()[:2])
        self.assertEqual([await self.jobs.recorded([row]) for row in rows], [True, True, False])
        self.assertFalse(await self.jobs.recorded(rows))
        await self.record(self.events()[2:])
        self.assertTrue(await self.jobs.recorded(rows))
        self.assertTrue(await self.jobs.recorded([]))

    async def test_tell_within_of_a_process_without_a_publisher(self) -> None:
        """Nobody leases what it tells: it is due at once, for whoever sweeps."""
        jobs = SqlJobs(self.database, clock=self.clock)
        event = Event(topic="user.ann", type="told", id="e", source="s", time_ms=1, data=b"{}")
        rows = await self.database.write(lambda transaction: jobs.tell_within(transaction, [event]))
        jobs.post(rows)
        self.assertEqual([row.id for row in await self.outbox.take(lease_ms=1, limit=9)], [row.id for row in rows])

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

    async def test_list_of_children(self) -> None:
        """The children of a job are listed, and no others; or those that are nobody's."""
        parent = await self.parent_of("c1", "c2")
        other = await self.parent_of("c3")
        for which, names in ((parent.id, {"c1", "c2"}), ("c1", set()), ("", {parent.id, other.id})):
            self.assertEqual({job.id for job in await self.jobs.list(JobFilter(parent=which))}, names)

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
