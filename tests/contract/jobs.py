"""The contract of ``msgd.jobs.interface.Jobs``, run on every implementation.

A test class mixes :class:`JobsContract` into a trial ``TestCase`` and names a database. Time is a Clock that only a test
moves; what was to be published is in ``self.posted``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import func, select, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from msgd.broker.topology import EVENTS, JOBS
from msgd.database import Database, Transaction
from msgd.errors import Conflict, InvalidInput, NotFound, Superseded
from msgd.jobs.interface import (
    Beat,
    BeatAnswer,
    Claimed,
    ClaimRequest,
    Job,
    JobFilter,
    OutboxRow,
    Problem,
    Refusal,
    State,
    Submission,
    TypeInfo,
)
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.messages import json
from msgd.messages.envelope import Message
from msgd.messages.events import Event, Recorded
from msgd.messages.jobs import HIGH, JobMessage
from msgd.messages.wire import message_to_event

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

T = TypeVar("T")

BEGUN_S = 1_800_000_000.0
DAY_S = 24 * 3600.0


class JobsBase(_Base):
    """A database with jobs in it, for this contract and that of the outbox."""

    clock: Clock
    database: Database
    jobs: SqlJobs
    outbox: SqlOutbox
    posted: list[OutboxRow]

    def url(self) -> str:
        """The URL of an empty database."""
        raise NotImplementedError

    def setUp(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.set_up())

    async def set_up(self) -> None:
        self.clock = Clock()
        self.clock.advance(BEGUN_S)
        self.posted = []
        self.database = Database(self.url(), reactor=reactor, threads=3)
        self.numbers = count(1)
        await self.database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        self.jobs = self.make_jobs()
        self.outbox = SqlOutbox(self.database, clock=self.clock)

    def make_jobs(self) -> SqlJobs:
        """The jobs as one more process has them."""
        return SqlJobs(
            self.database,
            clock=self.clock,
            make_id=lambda now_ms: f"job-{next(self.numbers):04}",
            post=self.posted.extend,
        )

    @property
    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    async def raises(self, error: type[Exception], awaitable: Any) -> Exception:
        """What ``awaitable`` raised; the test fails if that is no ``error``."""
        try:
            await awaitable
        except error as raised:
            return raised
        self.fail(f"{error.__name__} was not raised")
        raise AssertionError

    async def all(self, *coroutines: Any) -> list[Any]:
        """The results of coroutines that run at the same time."""
        return await gatherResults([Deferred.fromCoroutine(one) for one in coroutines], consumeErrors=True)

    async def submitted(self, **fields: Any) -> Job:
        """A new job; what it posted is forgotten."""
        submission = Submission(**{"type": "crawl", "params": b'{"url":"http://a.test/"}', **fields})
        submitted = await self.jobs.submit(submission)
        self.posted.clear()
        return submitted.job

    async def claimed(self, job: Job | None = None, *, worker: str = "w1", redelivered: bool = False) -> Claimed:
        """A claim on the present slice of ``job`` (or of a new one)."""
        if job is None:
            job = await self.submitted()
        present = await self.jobs.get(job.id)
        claimed = await self.jobs.claim(ClaimRequest(job.id, present.slice, worker, redelivered))
        assert isinstance(claimed, Claimed), claimed
        return claimed

    async def rows(self) -> list[tuple[str, str, str]]:
        """The outbox as (job, exchange, key), in id order."""
        query = text("SELECT job, exchange, key FROM outbox ORDER BY id")
        return [tuple(row) for row in await self.database.read(lambda transaction: transaction.execute(query).all())]

    async def calls(self, job: str) -> int:
        """How many calls of a job are in the outbox."""
        return sum(row[:2] == (job, JOBS) for row in await self.rows())

    def events(self) -> list[Event]:
        """The events among the rows posted."""
        return [
            message_to_event(row.key, row.message, now_ms=0, new_id="") for row in self.posted if row.exchange == EVENTS
        ]

    def said(self) -> list[tuple[str, int | None, Any]]:
        """The events posted, as (type, token, data)."""
        return [(event.type, event.token, json.decode(event.data, dict)) for event in self.events()]

    async def record(self, events: Sequence[Event]) -> Any:
        """Have the recorder store events."""
        recorded = [Recorded(event, number, number) for number, event in enumerate(events, 1)]
        return await self.database.write(lambda transaction: self.jobs.record(transaction, recorded))


class JobsContract(JobsBase):
    """What Jobs promises."""

    # -- asking --------------------------------------------------------------------------------------------------------

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
        for wrong, where in (({"id": "a.b"}, "id"), ({"id": "x" * 201}, "id"), ({"key": "a\0"}, "key")):
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

    async def test_between_slices_a_job_is_shown_running(self) -> None:
        """Whoever watches does not see it queued again between two slices, but does while it waits for a retry."""
        claimed = await self.claimed()
        await self.jobs.save(claimed.claim, None)
        between = await self.jobs.get(claimed.job.id)
        self.assertEqual((between.state, between.shown_state), (State.QUEUED, State.RUNNING))
        claimed = await self.claimed(between)
        await self.jobs.retry(claimed.claim, Problem("peer", "no"), 60, attempts=8)
        self.assertEqual((await self.jobs.get(between.id)).shown_state, State.QUEUED)

    # -- claims --------------------------------------------------------------------------------------------------------

    async def test_claim(self) -> None:
        """A claim gives the job its next token, and says who performs it since when."""
        job = await self.submitted()
        claimed = await self.claimed(job)
        self.assertEqual((claimed.claim.run, claimed.claim.slice, claimed.claim.token), (1, 0, 1))
        self.assertFalse(claimed.alone)
        self.assertEqual(
            (claimed.job.state, claimed.job.worker, claimed.job.started_ms, claimed.job.heartbeat_ms),
            (State.RUNNING, "w1", self.now_ms, self.now_ms),
        )
        self.assertEqual(claimed.job.params, job.params)
        self.assertEqual(await self.jobs.get(job.id), claimed.job)

    async def test_claim_unknown(self) -> None:
        """A message of a job without a row is told from all others."""
        answer = await self.jobs.claim(ClaimRequest("nothing", 0, "w", redelivered=False))
        self.assertIs(answer, Refusal.UNKNOWN)

    async def test_claim_stale(self) -> None:
        """A copy for a slice that is over, or of a job that ended or waits, is stale."""
        claimed = await self.claimed()
        request = ClaimRequest(claimed.job.id, 0, "w2", redelivered=True)
        await self.jobs.save(claimed.claim, None)
        self.assertIs(await self.jobs.claim(request), Refusal.STALE)
        claimed = await self.claimed(claimed.job)
        await self.jobs.end(claimed.claim, State.DONE)
        ended = ClaimRequest(claimed.job.id, 1, "w2", redelivered=True)
        self.assertIs(await self.jobs.claim(ended), Refusal.STALE)

    async def test_claim_held(self) -> None:
        """A copy that is not marked redelivered is refused while the heartbeat is younger than 10 s, and no longer."""
        claimed = await self.claimed()
        request = ClaimRequest(claimed.job.id, 0, "w2", redelivered=False)
        self.clock.advance(9.9)
        self.assertIs(await self.jobs.claim(request), Refusal.HELD)
        self.clock.advance(0.2)
        second = await self.jobs.claim(request)
        assert isinstance(second, Claimed)
        self.assertEqual(second.claim.token, 2)
        await self.raises(Superseded, self.jobs.save(claimed.claim, None))

    async def test_claim_redelivered(self) -> None:
        """A redelivered message claims at once: the broker has noticed that its consumer is gone."""
        claimed = await self.claimed()
        second = await self.claimed(claimed.job, worker="w2", redelivered=True)
        self.assertEqual((second.claim.token, second.job.worker), (2, "w2"))
        self.assertEqual(second.job.started_ms, claimed.job.started_ms)

    async def test_claims_of_many_at_once(self) -> None:
        """Of many workers with copies of one message, one goes on."""
        job = await self.submitted()
        workers = [self.jobs, self.make_jobs()]
        answers = await self.all(
            *(workers[n % 2].claim(ClaimRequest(job.id, 0, f"w{n}", redelivered=False)) for n in range(10))
        )
        self.assertEqual(sum(isinstance(answer, Claimed) for answer in answers), 1)
        self.assertEqual(answers.count(Refusal.HELD), 9)

    async def test_poison(self) -> None:
        """From its third claim without a save a slice runs alone; after three of those the next claim ends the job."""
        job = await self.submitted()
        claims = [await self.claimed(job, redelivered=True) for _ in range(5)]
        self.assertEqual([claimed.alone for claimed in claims], [False, False, True, True, True])
        answer = await self.jobs.claim(ClaimRequest(job.id, 0, "w", redelivered=True))
        self.assertIs(answer, Refusal.POISON)
        ended = await self.jobs.get(job.id)
        assert ended.error is not None
        self.assertEqual((ended.state, ended.token, ended.error.code), (State.FAILED, 6, "poison"))
        [(type_, token, data)] = self.said()
        self.assertEqual((type_, token, data["code"]), ("failed", 6, "poison"))
        await self.raises(Superseded, self.jobs.end(claims[-1].claim, State.DONE))

    async def test_a_save_clears_the_suspicion(self) -> None:
        """Claims are counted since the last save."""
        job = await self.submitted()
        for _ in range(4):
            claimed = await self.claimed(job, redelivered=True)
        await self.jobs.save(claimed.claim, None)
        claimed = await self.claimed(job)
        self.assertEqual((claimed.job.claims, claimed.alone), (1, False))

    # -- signs of life -------------------------------------------------------------------------------------------------

    async def test_beat(self) -> None:
        """A beat renews its jobs and keeps their latest progress; each is answered, in order."""
        first, second = await self.claimed(), await self.claimed()
        await self.claimed(second.job, worker="w2", redelivered=True)
        self.clock.advance(2)
        beats = [Beat(second.claim, b'{"n":9}'), Beat(first.claim, b'{"done":1}')]
        self.assertEqual(await self.jobs.beat(beats), [BeatAnswer.SUPERSEDED, BeatAnswer.GO_ON])
        job = await self.jobs.get(first.job.id)
        self.assertEqual((job.heartbeat_ms, job.progress), (self.now_ms, b'{"done":1}'))
        self.assertIsNone((await self.jobs.get(second.job.id)).progress)
        await self.jobs.beat([Beat(first.claim, None)])
        self.assertEqual((await self.jobs.get(first.job.id)).progress, b'{"done":1}')
        self.assertEqual(await self.jobs.beat([]), [])

    async def test_beat_hears_of_a_cancel(self) -> None:
        """A worker that missed the signal is told to stop by its next beat."""
        claimed = await self.claimed()
        await self.jobs.cancel(claimed.job.id)
        self.assertEqual(await self.jobs.beat([Beat(claimed.claim, None)]), [BeatAnswer.CANCEL])

    async def test_beat_after_the_end(self) -> None:
        """A beat neither revives a job nor says that its claim is good."""
        claimed = await self.claimed()
        await self.jobs.end(claimed.claim, State.DONE)
        self.assertEqual(await self.jobs.beat([Beat(claimed.claim, None)]), [BeatAnswer.SUPERSEDED])
        self.assertEqual((await self.jobs.get(claimed.job.id)).state, State.DONE)

    # -- steps ---------------------------------------------------------------------------------------------------------

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
        JobsContract.note(transaction)
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

    # -- cancel --------------------------------------------------------------------------------------------------------

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

    # -- run again -----------------------------------------------------------------------------------------------------

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

    # -- children ------------------------------------------------------------------------------------------------------

    async def parent_of(self, *names: str) -> Job:
        """A job that waits for children with these ids."""
        claimed = await self.claimed(await self.submitted(owner="ann"))
        await self.jobs.wait(claimed.claim, [Submission(type="mail", params=b"{}", id=name) for name in names], b"9")
        self.posted.clear()
        return await self.jobs.get(claimed.job.id)

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

    # -- keeping alive -------------------------------------------------------------------------------------------------

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

    # -- the recorder --------------------------------------------------------------------------------------------------

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

    # -- types ---------------------------------------------------------------------------------------------------------

    async def test_types(self) -> None:
        """What workers announce is listed; a pause stays when the type is announced again."""
        crawl = TypeInfo(name="crawl", summary="Crawl a site", schema=b'{"type":"object"}', results=("result", "page"))
        await self.jobs.announce(TypeInfo(name="mail"))
        await self.jobs.announce(crawl)
        self.assertEqual(await self.jobs.types(), [crawl, TypeInfo(name="mail")])
        self.assertTrue((await self.jobs.pause("mail", True)).paused)
        await self.jobs.announce(TypeInfo(name="mail", summary="Send mail"))
        self.assertEqual((await self.jobs.types())[1], TypeInfo(name="mail", summary="Send mail", paused=True))
        self.assertFalse((await self.jobs.pause("mail", False)).paused)
        await self.raises(NotFound, self.jobs.pause("nothing", True))

    # -- dead letters --------------------------------------------------------------------------------------------------

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
        self.assertEqual((job.type, job.state, job.error.message, job.reply_to), ("crawl", State.FAILED, "not JSON", "q"))
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
        message = Message(body=b"{}", message_id="e", type="created", headers={"x-death": [], "msgd-reason": "r", "a": 1})
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

    # -- one call ------------------------------------------------------------------------------------------------------

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
