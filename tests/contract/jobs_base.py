"""What the contracts of the jobs and of their outbox stand on: a database, a Clock, and a list of what was posted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import text
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from msgd.broker.topology import EVENTS, JOBS
from msgd.database import Database
from msgd.jobs.interface import (
    Claimed,
    ClaimRequest,
    Job,
    OutboxRow,
    Submission,
)
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.messages import json
from msgd.messages.events import Event, Recorded
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

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial awaits it
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

    async def parent_of(self, *names: str) -> Job:
        """A job that waits for children with these ids."""
        claimed = await self.claimed(await self.submitted(owner="ann"))
        await self.jobs.wait(claimed.claim, [Submission(type="mail", params=b"{}", id=name) for name in names], b"9")
        self.posted.clear()
        return await self.jobs.get(claimed.job.id)

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
