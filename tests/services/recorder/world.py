"""All that a recorder has to do with, for real: database, jobs, journal, broker, and a notifier that listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from msgd.broker.interface import Broker, Delivery
from msgd.broker.topology import EVENTS, HEAD_KEY, LIVE
from msgd.clock import Clock
from msgd.database import Database
from msgd.jobs.sql import SqlJobs
from msgd.journal.sql import SQLJournal
from msgd.messages.envelope import Message
from msgd.messages.events import Event, Recorded
from msgd.messages.live import Head, LiveEvent, decode_batch, decode_head
from msgd.messages.topics import BUCKETS
from msgd.messages.wire import event_to_message
from msgd.services.recorder.bell import Bell
from msgd.services.recorder.service import Recorder

clock: Clock = reactor

PATIENCE_S = 100.0
"""Nothing here takes that long; a test that waits for it has failed."""


def now_ms() -> int:
    return int(clock.seconds() * 1000)


def event(topic: str, id_: str, **others: Any) -> Event:
    """An event of which only what a test is about is said."""
    plain: dict[str, Any] = {"type": "said", "source": "ann", "time_ms": 5, "data": b"1"}
    return Event(topic=topic, id=id_, **plain | others)


class Listener:
    """A notifier as far as the recorder knows one: it hears all buckets and the heads."""

    def __init__(self) -> None:
        self.heard: list[Head | list[LiveEvent]] = []
        self._bell = Bell(clock)

    async def start(self, broker: Broker) -> None:
        bindings = [(LIVE, key) for key in (HEAD_KEY, *map(str, range(BUCKETS)))]
        await broker.reply_queue(self._hear, bindings=bindings, lost=lambda: None)

    def _hear(self, delivery: Delivery) -> None:
        body = delivery.message.body
        self.heard.append(decode_head(body) if delivery.key == HEAD_KEY else decode_batch(body).events)
        self._bell.ring()

    @property
    def heads(self) -> list[Head]:
        return [one for one in self.heard if isinstance(one, Head)]

    @property
    def events(self) -> list[LiveEvent]:
        return [event for one in self.heard if not isinstance(one, Head) for event in one]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when ``condition`` holds; it is looked at whenever something is heard."""
        deadline = clock.seconds() + PATIENCE_S
        while not condition():
            if not await self._bell.wait(deadline - clock.seconds()):
                raise AssertionError(f"not heard in time; heard was {self.heard[-20:]}")

    async def until_pos(self, pos: int) -> None:
        """Return when a head says that live push has come to ``pos``."""
        await self.until(lambda: any(head.last >= pos for head in self.heads))


class Caller:
    """A client that calls by RPC and waits at its reply queue."""

    def __init__(self) -> None:
        self.reply_to = ""
        self._heard: list[Message] = []
        self._bell = Bell(clock)

    async def start(self, broker: Broker) -> None:
        self.reply_to = (await broker.reply_queue(self._hear, lost=lambda: None)).name

    def _hear(self, delivery: Delivery) -> None:
        self._heard.append(delivery.message)
        self._bell.ring()

    async def answers(self, count: int) -> list[Message]:
        """The first so many answers, when they have come."""
        while len(self._heard) < count:
            if not await self._bell.wait(PATIENCE_S):
                raise AssertionError(f"{len(self._heard)} answers of {count} have come")
        return self._heard


class World:
    """Made for one test, ended with it."""

    def __init__(self, case: TestCase, database_url: str, make_broker: Callable[[], Broker]) -> None:
        self._case = case
        self.make_broker = make_broker
        self.broker = make_broker()
        self.database = Database(database_url, reactor=reactor, threads=2)
        self.jobs = SqlJobs(self.database, clock=clock)
        self.journal = SQLJournal(self.database, now_ms=now_ms)
        self.listener = Listener()

    async def start(self) -> None:
        self._case.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        await self.database.start()
        self._case.addCleanup(lambda: Deferred.fromCoroutine(self.broker.stop()))
        await self.broker.start()
        await self.listener.start(self.broker)

    def recorder(self, name: str = "one", **others: Any) -> Recorder:
        """A recorder that is not started; it is stopped with the test."""
        given: dict[str, Any] = {
            "journal": self.journal,
            "jobs": self.jobs,
            "broker": self.broker,
            "clock": clock,
        } | others
        made = Recorder(process=name, **given)
        self._case.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        return made

    async def begin(self, name: str = "one", **others: Any) -> Recorder:
        """A recorder that has been started."""
        made = self.recorder(name, **others)
        await made.start()
        return made

    async def caller(self) -> Caller:
        """A client that listens."""
        made = Caller()
        await made.start(self.broker)
        return made

    def publish(self, *events: Event) -> Deferred[Any]:
        """Publish events as anybody does; fires when the broker has them."""
        return gatherResults(
            [self.broker.publish(EVENTS, event.topic, event_to_message(event)) for event in events], consumeErrors=True
        )

    def publish_message(self, topic: str, **fields: Any) -> Deferred[None]:
        """Publish whatever a foreign client might."""
        return self.broker.publish(EVENTS, topic, Message(**fields))

    async def history(self) -> Sequence[Recorded]:
        """All that is journaled."""
        found: list[Recorded] = []
        after, more = 0, True
        while more:
            page = await self.journal.read(["#"], after=after, limit=1000)
            found.extend(page.events)
            after, more = page.upto, page.more
        return found

    async def ids(self) -> list[tuple[str, str]]:
        """Topic and id of all that is journaled, in order."""
        return [(one.event.topic, one.event.id) for one in await self.history()]

    async def depths_are_zero(self, *queues: str) -> bool:
        return not any((await self.broker.depths(queues)).values())
