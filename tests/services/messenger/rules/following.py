"""A journal that fills, jobs that come of it, and followers of it, on a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import update
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from msgd.broker.embedded import EmbeddedBroker
from msgd.database import Database, Transaction
from msgd.jobs.interface import Job, JobFilter, OutboxRow
from msgd.jobs.sql import SqlJobs
from msgd.journal.sql import SQLJournal
from msgd.messages import json
from msgd.messages.events import Event
from msgd.notifier.interface import Grant, Principal
from msgd.services.mailer.params import MAIL
from msgd.services.messenger.rules import tables
from msgd.services.messenger.rules.commands import Rules
from msgd.services.messenger.rules.following import RulesFollower
from msgd.services.messenger.rules.form import RuleForm
from msgd.services.messenger.rules.rule import Rule
from msgd.services.messenger.webhooks.params import WEBHOOK
from msgd.services.messenger.xmpp.params import MESSAGE

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object

reactor: Any = global_reactor

BEGUN_S = 1_800_000_000.0
TYPES: Mapping[str, Any] = {"mail": MAIL, "message": MESSAGE, "webhook": WEBHOOK}


def principal(sub: str = "ann", *can: str) -> Principal:
    """Who may do this; by default read app.# and submit everything."""
    given = can or ("subscribe:app.#", "submit:*")
    grants = tuple(Grant(*one.split(":")) for one in given)
    return Principal(sub=sub, grants=grants, expires_s=BEGUN_S + 3600)


class FollowingBase(_Base):
    """Mix into a trial TestCase that says which database."""

    timeout = 180

    def url(self) -> str:
        raise NotImplementedError

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial awaits it
        return Deferred.fromCoroutine(self.set_up())

    async def set_up(self) -> None:
        self.clock = Clock()
        self.clock.advance(BEGUN_S)
        self.posted: list[OutboxRow] = []
        self.members: dict[str, Collection[str]] = {}
        self.numbers = count(1)
        self.database = Database(self.url(), reactor=reactor, threads=3)
        await self.database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        self.jobs = SqlJobs(self.database, clock=self.clock, post=self.posted.extend)
        self.journal = SQLJournal(self.database, now_ms=self.now_ms)
        self.rules = Rules(
            self.database, self.journal, TYPES, self._readers, reactor, now_ms=self.now_ms, new_id=self._new_id
        )
        lease = await self.journal.acquire("test", ttl_ms=3_600_000)
        assert lease is not None
        self.lease = lease
        self.follower = self.make_follower()
        await self.follower.act()  # it begins at the present end

    def make_follower(self) -> RulesFollower:
        """One that acts when the test says so; it needs no broker for that."""
        return RulesFollower(
            database=self.database,
            journal=self.journal,
            jobs=self.jobs,
            broker=EmbeddedBroker(Path(self.mktemp()), reactor=reactor),
            readers=self._readers,
            reactor=reactor,
            clock=self.clock,
        )

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def _new_id(self, now_ms: int) -> str:
        return f"rule{next(self.numbers):04}"

    def _readers(self, transaction: Transaction, topics: Collection[str]) -> Mapping[str, Collection[str]]:
        return {topic: self.members[topic] for topic in topics if topic in self.members}

    async def rule(self, who: Principal | None = None, **fields: Any) -> Rule:
        """A stored rule: by default a webhook for app.#."""
        usual = {"name": "R", "topics": ["app.#"], "action": "webhook", "to": ["https://a.example/hook"]}
        form = msgspec.convert({**usual, **fields}, RuleForm)
        return await self.rules.create(who or principal(), form)

    async def now(self, rule: Rule) -> Rule:
        """The rule as it stands."""
        return await self.rules.show(principal(rule.owner), rule.id)

    async def stored(self, id_: str, **values: Any) -> None:
        """A rule is in the database as no form would let it in: an older program has saved it."""
        query = update(tables.rules).where(tables.rules.c.id == id_).values(**values)
        await self.database.write(lambda transaction: transaction.execute(query) and None)

    async def happen(self, *topics: str, type_: str = "created", data: Any = None, id_: str = "") -> None:
        """Events are journaled, a moment after what was before."""
        self.clock.advance(0.01)
        events = [
            Event(
                topic=topic,
                type=type_,
                id=id_ or f"e{next(self.numbers)}",
                source="shop",
                time_ms=self.now_ms(),
                data=json.encode(data),
            )
            for topic in topics
        ]
        await self.journal.append(self.lease, events)

    async def act(self, follower: RulesFollower | None = None) -> None:
        """Follow to the end."""
        while await (follower or self.follower).act():
            pass

    async def ordered(self) -> list[Job]:
        """The jobs that there are, in the order in which they were made."""
        found: Sequence[Job] = await self.jobs.list(JobFilter(limit=1000))
        return sorted(found, key=lambda job: job.created_ms)

    async def told(self) -> list[Any]:
        """The topics of the events that webhooks tell, or the counts of digests."""
        params = [msgspec.json.decode(job.params)["data"] for job in await self.ordered()]
        return [data["event"]["topic"] if "event" in data else data["count"] for data in params]
