"""All that a worker needs around it, for tests: a database, a broker, the outbox's publisher, runners.

Time is a Clock in the test's hand, so that slices end, heartbeats beat and retries come due when the test says so; the
database and the broker are real and take the time they take. The recorder's place is taken by a consumer that writes
down the events of jobs, also those that come twice, and deletes their outbox rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from msgd.broker.interface import Broker, Delivery
from msgd.broker.topology import JOB_EVENTS_QUEUE, job_queues
from msgd.database import Database
from msgd.jobs.interface import Job, State, Submission
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.messages import json
from msgd.messages.events import Event, Recorded
from msgd.messages.topics import job_topic
from msgd.services.recorder.sorting import Given, read
from msgd.work import Worker
from msgd.work.attempt import Limits
from msgd.work.runner import Runner

T = TypeVar("T")

BEGIN_S: Final = 1_700_000_000.0
"""When the tests happen: a time such as the real ones."""

STEP_S: Final = 0.5
"""How far :meth:`World.advance` goes at once: shorter than what it passes over, such as a heartbeat."""


class World:
    """Call :meth:`open` first and :meth:`close` last."""

    def __init__(self, database_url: str, make_broker: Callable[[], Broker]) -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN_S)
        self.database = Database(database_url, reactor=reactor)
        self.broker = make_broker()
        self.publisher = Publisher(SqlOutbox(self.database, clock=self.clock), self.broker, clock=self.clock)
        self.jobs = SqlJobs(self.database, clock=self.clock, post=self.publisher.post)
        self.events: list[Event] = []
        self.runners: list[Runner] = []
        self._unrecorded: list[Recorded] = []
        self._recording: Deferred[None] | None = None
        self._make_broker = make_broker
        self._awaited: list[tuple[Callable[[Event], bool], Deferred[Event]]] = []

    async def open(self) -> None:
        await self.database.start()
        await self.broker.start()
        await self.publisher.start()
        await self.broker.consume(JOB_EVENTS_QUEUE, self._happened, prefetch=100)

    async def close(self) -> None:
        await self._stop()
        while self._recording is not None:
            await self.turn()
        await self.database.stop()

    async def _stop(self) -> None:
        """End all but the database, whatever grace it takes."""
        for runner in self.runners:
            await self.passing(runner.stop())
        await self.passing(self.publisher.stop())
        await self.broker.stop()

    # -- what is there ------------------------------------------------------------------------------------------------

    async def runner(self, *workers: Worker[Any], broker: Broker | None = None, **limits: Any) -> Runner:
        """A running process with these workers."""
        runner = self.new_runner(*workers, broker=broker, **limits)
        await runner.start()
        return runner

    def new_runner(self, *workers: Worker[Any], broker: Broker | None = None, **limits: Any) -> Runner:
        """A process that was not started yet."""
        runner = Runner(
            workers,
            jobs=self.jobs,
            broker=broker or self.broker,
            clock=self.clock,
            process=f"test-{len(self.runners)}",
            limits=lambda _: Limits(**limits),
            jitter=lambda: 0.0,
        )
        self.runners.append(runner)
        return runner

    async def submit(self, type_: str, params: Any = None, **more: Any) -> str:
        """The id of a new job."""
        submitted = await self.jobs.submit(Submission(type=type_, params=json.encode(params or {}), **more))
        return submitted.job.id

    async def advance(self, seconds: float) -> None:
        """Let time pass; between its steps the reactor has its turns."""
        while seconds > 0:
            self.clock.advance(min(STEP_S, seconds))
            seconds -= STEP_S
            await self.turn()

    async def turn(self) -> None:
        """One turn of the reactor."""
        turned: Deferred[None] = Deferred()
        cast(Any, reactor).callLater(0, turned.callback, None)
        await turned

    # -- what happens -------------------------------------------------------------------------------------------------

    def _happened(self, delivery: Delivery) -> None:
        item = read(delivery, now_ms=0, new_id=lambda _: "")
        assert isinstance(item, Given), item
        delivery.ack()
        for event in item.events:
            self.events.append(event)
            self._unrecorded.append(Recorded(event, len(self.events), len(self.events)))
        if self._recording is None:
            self._recording = Deferred.fromCoroutine(self._record())
        for event in item.events:
            for entry in [entry for entry in self._awaited if entry[0](event)]:
                self._awaited.remove(entry)
                entry[1].callback(event)

    async def _record(self) -> None:
        while self._unrecorded:
            batch, self._unrecorded = self._unrecorded, []
            await self.database.write(partial(self.jobs.record, recorded=batch))
        self._recording = None

    async def event(self, job: str, type_: str) -> Event:
        """The first event of that type of the job, once it has happened."""

        def is_it(event: Event) -> bool:
            return (event.topic, event.type) == (job_topic(job), type_)

        for event in self.events:
            if is_it(event):
                return event
        awaited: Deferred[Event] = Deferred()
        self._awaited.append((is_it, awaited))
        return await awaited

    def of(self, job: str) -> list[Event]:
        """The events of the job so far."""
        return [event for event in self.events if event.topic == job_topic(job)]

    def types(self, job: str) -> list[str]:
        """The types of the events of the job so far, without those that came again: as the journal would keep them."""
        return list({event.id: event.type for event in self.of(job)}.values())

    async def ended(self, job: str, state: State = State.DONE) -> Job:
        """The job, once it has ended in that state."""
        await self.event(job, state.value)
        found = await self.jobs.get(job)
        assert found.state is state, found
        return found

    async def passing(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns; time passes until then."""
        result = Deferred.fromCoroutine(coroutine)
        while not result.called:
            self.clock.advance(STEP_S)
            await self.turn()
        return await result

    async def until(self, condition: Callable[[], Awaitable[bool]], *, passing_s: float = 0.0) -> None:
        """Turn the reactor, and let so much time pass with each turn, until the condition holds."""
        while not await condition():
            if passing_s:
                self.clock.advance(passing_s)
            await self.turn()

    async def restarted_broker(self) -> Broker:
        """Stop everything on the broker, and come back to it: what was not acknowledged is in its queues again."""
        await self._stop()
        self.broker = self._make_broker()
        await self.broker.start()
        return self.broker

    async def left(self, type_: str) -> int:
        """How many messages of a type were never acknowledged. Nothing runs afterwards."""
        queues = job_queues(type_)
        broker = await self.restarted_broker()
        await broker.declare_type(type_)
        return sum((await broker.depths(queue.name for queue in (queues.new, queues.high, queues.more))).values())
