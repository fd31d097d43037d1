"""The ledger and the suppressions in the database, on both databases."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.database.direct import answers
from msgd.jobs.interface import Submission
from msgd.jobs.sql import SqlJobs
from msgd.services.mailer import store
from msgd.services.mailer.bounces.notice import Notice
from msgd.services.mailer.bounces.store import bounce
from msgd.services.mailer.counting import Counting
from msgd.services.mailer.ledger import Begun, Ended, NewRow, RowState
from msgd.services.mailer.steps import store as steps
from msgd.services.mailer.steps.store import advance
from msgd.services.mailer.suppressions import store as suppressions  # trial takes a ``suppress`` for its own
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected


class StoreCases(_TestCase):
    timeout = 180

    def url(self) -> str:
        raise NotImplementedError

    async def begin(self, count: int = 3) -> None:
        """A mailing with so many recipients."""
        self.database = Database(self.url(), reactor=reactor)
        await self.database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        jobs = SqlJobs(self.database, clock=reactor, post=lambda _: None)
        self.job = (await jobs.submit(Submission(type="mail", params=b"{}"))).job.id
        self.mailing = (await self.write(store.open_mailing, job=self.job, now_ms=1)).id
        rows = [NewRow(n, f"p{n}@example.com", f"p{n}@example.com", "", {"n": n}) for n in range(1, count + 1)]
        await self.write(store.load, mailing=self.mailing, given=rows, read=count, complete=True, now_ms=1)

    async def write(self, change: Any, **given: Any) -> Any:
        return await self.database.write(partial(change, **given))

    async def advance(self, **step: Any) -> Begun:
        given = {"begin": [], "end": [], "back": [], "job": self.job, "claim": "a/1", "now_ms": 10, **step}
        found: Begun = await self.write(advance, mailing=self.mailing, **given)
        return found

    async def due(self, now_ms: int = 10) -> Any:
        return await self.write(store.due, mailing=self.mailing, first=1, last=99, after=0, now_ms=now_ms, limit=10)

    async def states(self) -> dict[str, int]:
        return dict(await self.write(store.counts, mailing=self.mailing))

    async def test_once(self) -> None:
        """The same address comes once, a mailing is one for all runs of its job, what is read stays read."""
        await self.begin()
        again = [NewRow(4, "P1@example.com", "p1@example.com", "", {}), NewRow(5, "x", "", "", {}, "no address")]
        await self.write(store.load, mailing=self.mailing, given=again, read=5, complete=True, now_ms=2)
        found = await self.write(store.open_mailing, job=self.job, now_ms=99)
        self.assertEqual((found.id, found.rows, found.complete, found.started_ms), (self.mailing, 5, True, 1))
        rows = await self.due()
        self.assertEqual([row.row for row in rows], [1, 2, 3, 5])
        self.assertEqual([row.mailable for row in rows], [True, True, True, False])
        self.assertEqual((rows[0].vars, rows[3].reply), ({"n": 1}, "no address"))

    async def test_as_it_was_put_in(self) -> None:
        """Names, variables and replies, whatever is in them."""
        await self.begin(0)
        given = {"a": ["naïve ☃ \"'\\ \u0001", {"b": [1, -2.5e-300, 2**62, True, None]}], "c": {}}
        rows = [NewRow(1, "a@x.example", "a@x.example", 'Ann "☃" O\'Hara', given), NewRow(2, "x", "", "", {}, '"no"\t')]
        await self.write(store.load, mailing=self.mailing, given=rows, read=2, complete=True, now_ms=1)
        due = await self.due()
        self.assertEqual([(row.row, row.name, row.vars, row.reply) for row in due], [
            (1, rows[0].name, given, ""), (2, "", {}, rows[1].reply),
        ])  # fmt: skip
        self.assertEqual([(row.state, row.attempt, row.first_ms) for row in due], [("queued", 0, None)] * 2)
        await self.advance(begin=due)
        await self.advance(end=[Ended(1, RowState.DEFERRED, 1, 451, "☃ \"'\\ $[0]", 5), Ended(2, RowState.BOUNCED, 1)])
        (left,) = await self.due()
        self.assertEqual((left.row, left.reply, left.first_ms), (1, "☃ \"'\\ $[0]", 10))

    async def test_of_two_that_would_send_one_does(self) -> None:
        """A row is *sending* for one claim, also of two jobs and of two claims of one job."""
        await self.begin()
        rows = await self.due()
        first = await self.advance(begin=rows[:2])
        second = await self.advance(begin=rows, claim="b/1")
        third = await self.advance(begin=rows, claim="a/2")
        self.assertEqual(third.rows, set())
        self.assertEqual((first.rows, second.rows), ({1, 2}, {3}))
        left = await self.write(store.left_behind, mailing=self.mailing, first=1, last=2)
        self.assertEqual([(row.row, row.attempt) for row in left], [(1, 1), (2, 1)])

    async def test_a_step_made_again(self) -> None:
        """The same claim is told again what it began, when the answer of the first time was lost; but not what has
        ended meanwhile."""
        await self.begin()
        rows = await self.due()
        first = await self.advance(begin=rows)
        again = await self.advance(begin=rows, now_ms=11)
        self.assertEqual((first.rows, again.rows), ({1, 2, 3}, {1, 2, 3}))
        left = await self.write(store.left_behind, mailing=self.mailing, first=1, last=3)
        self.assertEqual([(row.attempt, row.first_ms) for row in left], [(1, 10)] * 3)
        await self.advance(end=[Ended(1, RowState.SENT, 1, 250, "ok")], back=[rows[1]])
        self.assertEqual((await self.advance(begin=rows[:1])).rows, set())
        self.assertEqual((await self.advance(begin=rows[1:])).rows, {2, 3})

    async def test_a_life(self) -> None:
        """Sent, deferred until its time, bounced and suppressed, put back."""
        await self.begin(4)
        rows = await self.due()
        await self.advance(begin=rows)
        ended = [
            Ended(1, RowState.SENT, 1, 250, "ok"),
            Ended(2, RowState.DEFERRED, 1, 451, "later", 1000),
            Ended(3, RowState.BOUNCED, 1, 550, "nobody", suppress=("p3@example.com", "p3@example.com")),
        ]
        await self.advance(end=ended, back=[rows[3]])
        self.assertEqual(await self.states(), {"sent": 1, "deferred": 1, "bounced": 1, "queued": 1})
        self.assertEqual([(row.row, row.attempt) for row in await self.due()], [(4, 0)])
        later = await self.due(1000)
        self.assertEqual([(row.row, row.attempt, row.first_ms) for row in later], [(4, 0, 10), (2, 1, 10)])
        left = await self.write(store.remaining, mailing=self.mailing, first=1, last=9, now_ms=500)
        self.assertEqual((left.now, left.deferred, left.next_ms), (1, 1, 1000))
        self.assertEqual(await self.write(store.stretches, mailing=self.mailing, size=1), [(2, 2), (4, 4)])
        await self.advance(begin=later)
        await self.advance(back=later)
        self.assertEqual((await self.states())["deferred"], 1)
        found = await self.write(suppressions.find, key="p3@example.com")
        self.assertEqual((found.reason, found.detail, found.job), ("bounced", "550 nobody", self.job))

    async def test_counted_for_all(self) -> None:
        """Who looks soon is shown what was counted for others; of a job that has ended it is counted anew."""
        await self.begin(4)
        clock = Clock()

        def now_s() -> float:
            clock.advance(1.0)
            return clock.seconds()

        counting = Counting(self.database, now_s)
        both = [Deferred.fromCoroutine(counting.of(self.job, anew=False)) for _ in "ab"]
        first, second = await gatherResults(both)
        self.assertIs(first, second)
        self.assertEqual(first.states, {"queued": 4})
        await self.advance(begin=(await self.due())[:1])
        self.assertEqual((await counting.of(self.job, anew=False)).states, {"queued": 4})
        now = {"queued": 3, "sending": 1}
        self.assertEqual((await counting.of(self.job, anew=True)).states, now)
        await self.advance(begin=(await self.due())[:1])
        self.assertEqual((await counting.of(self.job, anew=False)).states, now)
        clock.advance(20.0)  # it took a second: nineteen are enough
        self.assertEqual((await counting.of(self.job, anew=False)).states, {"queued": 2, "sending": 2})
        self.assertIsNone((await counting.of("none", anew=False)).mailing)

    async def test_suppressed_and_paused(self) -> None:
        """Whoever wants no mail does not become *sending*; a pause is told with every step."""
        await self.begin()
        p2 = {"key": "p2@example.com", "email": "p2@example.com", "detail": "", "job": "", "now_ms": 1}
        await self.write(suppressions.suppress, reason="unsubscribed", **p2)
        await self.write(store.set_paused, job=self.job, paused=True, now_ms=1)
        begun = await self.advance(begin=await self.due())
        self.assertEqual((begun.rows, begun.suppressed, begun.paused), ({1, 3}, {2: "unsubscribed"}, True))
        self.assertFalse(await self.write(suppressions.suppress, reason="added", **p2))
        self.assertEqual((await self.write(suppressions.find, key="p2@example.com")).reason, "unsubscribed")
        found = await self.write(suppressions.page, search="p2", after="", limit=9)
        self.assertEqual([one.email for one in found], ["p2@example.com"])
        self.assertEqual(await self.write(suppressions.page, search="%", after="", limit=9), [])
        lifted = [await self.write(suppressions.lift, key="p2@example.com") for _ in "ab"]
        self.assertEqual(lifted, [True, False])

    async def test_late_bounce(self) -> None:
        """A notice counts once, with an event to tell; of a row that is not sent it changes nothing."""
        await self.begin()
        rows = await self.due()
        await self.advance(begin=rows)
        await self.advance(end=[Ended(1, RowState.SENT, 1, 250, "ok")], back=rows[1:2])
        notice = Notice((), 550, "5.1.1 nobody", permanent=True)
        take = partial(self.write, bounce, mailing=self.mailing, notice=notice, now_ms=20)
        told = await take(row=1)
        self.assertEqual((told.type, told.topic), ("bounced", f"job.{self.job}"))
        self.assertEqual([await take(row=1), await take(row=2), await take(row=77)], [None] * 3)
        self.assertEqual((await self.write(suppressions.find, key="p1@example.com")).detail, "5.1.1 nobody")
        passing = Notice((), 450, "4.2.0 later", permanent=False)
        self.assertIsNone(await self.write(bounce, mailing=self.mailing, row=1, notice=passing, now_ms=20))

    async def test_forgotten(self) -> None:
        """Recipients of jobs that are purged are deleted a bounded number at a time; other jobs' are not."""
        self.patch(store, "FORGOTTEN", 4)
        await self.begin(9)
        other = self.job
        jobs = SqlJobs(self.database, clock=reactor, post=lambda _: None)
        self.job = (await jobs.submit(Submission(type="mail", params=b"{}"))).job.id
        mailing = (await self.write(store.open_mailing, job=self.job, now_ms=1)).id
        rows = [NewRow(n, f"p{n}@example.com", f"p{n}@example.com", "", {}) for n in range(1, 4)]
        await self.write(store.load, mailing=mailing, given=rows, read=3, complete=True, now_ms=1)
        self.assertEqual(await self.write(store.forget, jobs=["none"]), set())
        self.assertEqual(await self.write(store.forget, jobs=[self.job]), set())
        self.assertEqual(
            (await self.states(), dict(await self.write(store.counts, mailing=mailing))), ({"queued": 9}, {})
        )
        steps = [await self.write(store.forget, jobs=[other, self.job]) for _ in range(3)]
        self.assertEqual(([other in step for step in steps], await self.states()), ([True, True, False], {}))

    async def test_paused_with_all_there(self) -> None:
        """A mailing whose recipients are still being read does not count as paused."""
        await self.begin()
        asked = partial(self.write, store.is_paused, jobs=["none", self.job])
        self.assertFalse(await asked())
        await self.write(store.set_paused, job=self.job, paused=True, now_ms=1)
        self.assertTrue(await asked())
        await self.write(store.load, mailing=self.mailing, given=[], read=3, complete=False, now_ms=1)
        self.assertFalse(await asked())

    async def test_one_key(self) -> None:
        """The key of the signatures is made once."""
        await self.begin()
        first = await self.write(store.signing_key, made=b"a" * 32)
        self.assertEqual(await self.write(store.signing_key, made=b"b" * 32), first)


class SQLiteStoreTests(StoreCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute()}.sqlite3"

    async def test_plans(self) -> None:
        """A step looks for its rows one by one, however many the mailing has."""
        await self.begin()
        for query, count in (
            (steps._BEGIN_SQLITE, 5),
            (steps._BEGUN_SQLITE, 3),
            (steps._END_SQLITE, 3),
            (steps._BACK_SQLITE, 4),
        ):
            explained = (f"EXPLAIN QUERY PLAN {query}", ["[]"] * count)
            plan = await self.write(lambda transaction, asked: answers(transaction, asked)[0], asked=explained)
            (found,) = [detail for *_, detail in plan if "mail_recipients" in detail]
            self.assertRegex(found, r"^SEARCH mail_recipients .*\(mailing=\? AND row=\?\)")

    async def test_statements(self) -> None:
        """A step performs as many for eight rows as for two, at the same attempt: to begin, to end, to go back."""
        await self.begin(16)
        performed: list[str] = []

        def traced(transaction: Transaction, **step: Any) -> Begun:
            connection: Any = transaction.connection.driver_connection
            connection.set_trace_callback(performed.append)
            try:
                return advance(transaction, self.mailing, job=self.job, claim="a/1", now_ms=10, **step)
            finally:
                connection.set_trace_callback(None)

        rows = await self.write(store.due, mailing=self.mailing, first=1, last=99, after=0, now_ms=10, limit=16)
        counts = []
        for some in (2, 8):
            both = rows[:some]
            await self.write(traced, begin=both, end=[], back=[])
            ended = [Ended(row.row, RowState.SENT, 1, 250, "ok") for row in both[::2]]
            await self.write(traced, begin=[], end=ended, back=both[1::2])
            rows = rows[some:]
            counts.append(sum("mail_recipients" in one for one in performed))
            performed.clear()
        self.assertEqual(counts[0], counts[1])
        self.assertEqual(await self.states(), {"sent": 5, "queued": 11})


class PostgreSQLStoreTests(StoreCases, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)
