"""How PostgreSQL comes to the rows of a job: by plans that it made while the tables were small, and keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.jobs.interface import Claimed, ClaimRequest, State, Submission
from msgd.jobs.sql import SqlJobs
from msgd.journal.interface import Lease
from msgd.journal.sql import SQLJournal
from msgd.messages.events import DONE, Event, Recorded, event_id
from msgd.messages.topics import job_topic
from tests.servers import postgres

ROUNDS = 8
"""After which the driver has prepared every statement, and the server has settled for a plan that it keeps."""

_SCANS = text(
    "SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0 AND relname <> 'journal_head' ORDER BY relname"
)
"""Tables that this connection has just read as a whole; the head has one row."""


def scanned(transaction: Transaction) -> Sequence[str]:
    return transaction.execute(_SCANS).scalars().all()


def nothing(transaction: Transaction) -> None:
    """Migrations read whole tables, on a connection of their own."""


class PlansTests(TestCase):
    async def opened(self, url: str, **options: Any) -> Database:
        database = Database(url, reactor=reactor, **options)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def test_no_plan_reads_a_whole_table(self) -> None:
        """Submit, claim, end and append go by indexes, although there is next to nothing in the tables yet."""
        url = postgres.fresh_database(self)
        await self.opened(url)
        database = await self.opened(url, prepare=nothing)
        self.jobs = SqlJobs(database, clock=reactor)
        self.journal = SQLJournal(database, now_ms=lambda: 0)
        lease = await self.journal.acquire("test", ttl_ms=60_000)
        assert lease is not None
        for _ in range(ROUNDS):
            self.assertEqual(await self.scans_of_a_job(lease), [])

    async def scans_of_a_job(self, lease: Lease) -> Sequence[str]:
        """What is scanned for one job's way from its submission to its recorded end."""
        submitted = await self.jobs.submit(Submission(type="noop", params=b"{}"))
        job = submitted.job
        claimed = await self.jobs.claim(ClaimRequest(job.id, 0, "worker", False))
        assert isinstance(claimed, Claimed)
        found: list[str] = []
        await self.jobs.end(claimed.claim, State.DONE, write=lambda transaction: found.extend(scanned(transaction)))
        end = Event(
            topic=job_topic(job.id),
            type=DONE,
            id=event_id(job.id, 1, DONE),
            source="noop",
            time_ms=0,
            run=1,
            token=claimed.claim.token,
            outbox=1,
        )

        def record(transaction: Transaction, given: Sequence[Event], recorded: Sequence[Recorded]) -> None:
            self.jobs.record(transaction, recorded, given)
            found.extend(scanned(transaction))

        await self.journal.append(lease, [end], within=record)
        return found
