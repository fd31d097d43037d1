"""A host of feeds on loopback, well-behaved or not, and a world with a worker that reads from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker, Delivery
from msgd.broker.topology import TALK_QUEUE
from msgd.jobs.interface import State
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.messages.events import Event
from msgd.messages.wire import message_to_event
from msgd.services.messenger.feeds.worker import Feeds
from msgd.work.network import Reach
from tests.services.messenger.webhooks.receiving import LOOPBACK, Answer, Receiver
from tests.work.world import STEP_S, World

reactor: Any = global_reactor

LEASED_S = 10.0
"""A row of the outbox that is due later waits for its time, and not for its confirm."""


def feed(body: bytes, code: int = 200, **headers: str) -> Answer:
    """An answer with a body."""

    def answer(request: Any) -> None:
        request.setResponseCode(code)
        for name, value in {"content_type": "application/rss+xml", **headers}.items():
            request.setHeader(name.replace("_", "-"), value)
        request.write(body)

    return answer


class FeedCase(TestCase):
    """A world with a worker of feeds in it, and a host of feeds."""

    timeout = 180

    async def open(self, *, reach: Reach = LOOPBACK) -> None:
        folder = self._folder()

        def broker() -> Broker:
            return EmbeddedBroker(folder / "broker.sqlite3", reactor=reactor)

        self.world = World(f"sqlite:///{folder}/msgd.sqlite3", broker)
        await self.world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.close()))
        self.entries: list[Event] = []
        await self.world.broker.consume(TALK_QUEUE, self._came, prefetch=100)
        self.reach = reach
        await self.world.runner(self.worker(), attempts=2)
        self.host = Receiver()
        await self.host.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.host.stop()))

    def _folder(self) -> Path:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    def worker(self) -> Feeds:
        return Feeds(reactor, self.reach, now_ms=lambda: int(self.world.clock.seconds() * 1000))

    def _came(self, delivery: Delivery) -> None:
        self.entries.append(message_to_event(delivery.key, delivery.message, now_ms=0, new_id=""))
        delivery.ack()

    async def read(self, every: float = 60, **params: Any) -> str:
        """The id of a new feed job."""
        given = {"url": self.host.url, "topic": "news.test", "every": every, **params}
        return await self.world.submit("feed", given)

    async def polled(self, job: str, polls: int, *, passing_s: float = 0.5) -> dict[str, Any]:
        """What the job shows after so many polls; time passes until then: in leaps of ``passing_s`` while nothing is
        done but to wait, however busy the machine is."""
        outbox = SqlOutbox(self.world.database, clock=self.world.clock)
        while True:
            found = await self.world.jobs.get(job)
            if found.state is State.RUNNING:  # no time passes, and what it shows it is still about to tell
                await self.world.turn()
                continue
            if found.ended or self._shown(found).get("polls", 0) >= polls:
                return self._shown(found)
            due_ms = await outbox.next_due_ms()
            wait_s = 0.0 if due_ms is None else due_ms / 1000 - self.world.clock.seconds()
            self.world.clock.advance(min(passing_s, wait_s) if wait_s > LEASED_S else min(passing_s, STEP_S))
            await self.world.turn()

    def _shown(self, job: Any) -> dict[str, Any]:
        return {} if job.progress is None else msgspec.json.decode(job.progress)

    def titles(self) -> list[str]:
        """The titles of the entries that came, in their order."""
        return [msgspec.json.decode(event.data)["title"] for event in self.entries]
