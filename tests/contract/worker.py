"""What the runtime promises to workers and to those who submit jobs, on every broker and database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from sqlalchemy import text
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial import unittest

from msgd.broker import topology
from msgd.broker.interface import Broker, Delivery
from msgd.database import Transaction
from msgd.errors import PeerError, Superseded
from msgd.jobs.interface import Claim, Claimed, ClaimRequest, State, Submission
from msgd.messages.envelope import Message
from msgd.messages.events import event_id
from msgd.messages.live import decode_batch
from msgd.messages.topics import job_topic
from msgd.work import Context, Continue, Done, Failed, Outcome, Retry, Wait, job
from msgd.work.cancel import cancel
from msgd.work.floor import GRACE_S
from msgd.work.once import Once
from tests.work.world import World

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object


class Count(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of the jobs in these tests."""

    upto: int = 1


class Gate:
    """A worker's perform that tells when it has begun and waits until it is let go, or its slice is over."""

    def __init__(self) -> None:
        self.begun: list[Context[Count]] = []
        self.cancelled = 0
        self.go = Once()
        self._awaited: list[tuple[int, Deferred[None]]] = []

    async def __call__(self, context: Context[Count]) -> Outcome:
        self.begun.append(context)
        for entry in [entry for entry in self._awaited if entry[0] <= len(self.begun)]:
            self._awaited.remove(entry)
            entry[1].callback(None)
        try:
            await self.go.wait()
        except CancelledError:
            self.cancelled += 1
            raise
        return Done(len(self.begun))

    async def has_begun(self, count: int = 1) -> None:
        """Returns when so many attempts have begun."""
        if len(self.begun) < count:
            awaited: Deferred[None] = Deferred()
            self._awaited.append((count, awaited))
            await awaited


class WorkerContract(_Base):
    """Mix into a trial TestCase that says which database and which broker."""

    def database_url(self) -> str:
        """An empty database of this test's own."""
        raise NotImplementedError

    def make_broker(self) -> Broker:
        """A connection to the broker of this test."""
        raise NotImplementedError

    async def opened(self) -> World:
        world = World(self.database_url(), self.make_broker)
        await world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(world.close()))
        return world

    # -- the way of a job ---------------------------------------------------------------------------------------------

    async def test_done(self) -> None:
        """A job is performed: started, its results, done, in that order; its message is acknowledged."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for number in range(context.params.upto):
                context.emit("result", number, key=str(number))
            return Done({"counted": context.params.upto})

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 3})
        done = await world.ended(id_)
        self.assertEqual(world.types(id_), ["started", "result", "result", "result", "done"])
        self.assertEqual([event.data for event in world.of(id_)[1:4]], [b"0", b"1", b"2"])
        self.assertEqual(world.of(id_)[1].id, event_id(id_, 1, "result", "0"))
        self.assertEqual({(event.source, event.run, event.token) for event in world.of(id_)}, {("count", 1, 1)})
        self.assertEqual(done.result, b'{"counted":3}')
        self.assertEqual(await world.left("count"), 0)

    async def test_slices(self) -> None:
        """A job goes on from slice to slice with the state it gave; started is told once."""
        seen: list[tuple[int, Any]] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            at = context.state or 0
            seen.append((context.job.slice, at))
            await context.emit("result", at, key=str(at))
            return Done() if at == context.params.upto else Continue(at + 1)

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 3})
        await world.ended(id_)
        self.assertEqual(seen, [(0, 0), (1, 1), (2, 2), (3, 3)])
        self.assertEqual(world.types(id_), ["started", "result", "result", "result", "result", "done"])
        self.assertEqual(await world.left("count"), 0)

    async def test_slice_over(self) -> None:
        """After its seconds a slice is over, and whoever waits for that is told."""
        over: list[bool] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            if context.job.slice == 1:
                return Done()
            over.append(context.slice_over)
            began.happen()
            await context.over()
            over.append(context.slice_over)
            return Continue()

        began = Once()
        world = await self.opened()
        await world.runner(count, slice_s=20.0)
        id_ = await world.submit("count")
        await began.wait()
        await world.advance(19.5)
        self.assertEqual(over, [False])
        await world.advance(0.5)
        await world.ended(id_)
        self.assertEqual(over, [False, True])

    async def test_concurrency(self) -> None:
        """No more slices than slots at a time; when one ends the next begins."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate), concurrency=2)
        ids = [await world.submit("count") for _ in range(4)]
        await gate.has_begun(2)
        await world.advance(1.0)
        self.assertEqual(len(gate.begun), 2)
        gate.go.happen()
        for id_ in ids:
            await world.ended(id_)

    async def test_children(self) -> None:
        """A job that waits goes on, with its state, when its children have ended."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            if context.params.upto == 0 or context.state == "waited":
                return Done()
            children = [Submission(type="count", params=b'{"upto": 0}') for _ in range(context.params.upto)]
            return Wait(children, "waited")

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 2})
        await world.ended(id_)
        self.assertEqual(len([event for event in world.events if event.type == "done"]), 3)

    # -- failing ------------------------------------------------------------------------------------------------------

    async def test_retry(self) -> None:
        """What passes is tried again after a while: the same slice of work, under the same event ids."""
        attempts: list[int] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            attempts.append(context.job.attempt)
            await context.emit("result", 1, key="a")
            if len(attempts) == 1:
                raise PeerError("the host is away", retry_after=30)
            if len(attempts) == 2:
                return Retry("away", "the host is away again")
            return Done()

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count")
        await world.event(id_, "retrying")
        self.assertEqual((await world.jobs.get(id_)).not_before_ms, int(world.clock.seconds() * 1000) + 30_000)
        await world.until(self._counts(lambda: len(attempts), 3), passing_s=0.2)
        await world.ended(id_)
        self.assertEqual(attempts, [0, 1, 2])
        results = [event.id for event in world.of(id_) if event.type == "result"]
        self.assertEqual((len(results), len(set(results))), (3, 1))

    def _counts(self, number: Callable[[], int], expected: int) -> Callable[[], Any]:
        async def condition() -> bool:
            return number() >= expected

        return condition

    async def test_attempts(self) -> None:
        """An error that nobody expected is tried again, until the attempts are used up; then the job has failed."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            raise ZeroDivisionError("by nothing")

        world = await self.opened()
        await world.runner(count, attempts=2)
        id_ = await world.submit("count")
        await world.until(self._counts(lambda: world.types(id_).count("failed"), 1), passing_s=0.2)
        failed = await world.ended(id_, State.FAILED)
        assert failed.error is not None
        self.assertEqual((failed.error.code, failed.error.message), ("internal", "ZeroDivisionError: by nothing"))
        self.assertEqual(world.types(id_).count("retrying"), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    async def test_failed(self) -> None:
        """A job fails at once if its outcome says so, its params do not fit, or its result is no JSON."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Done(object()) if context.params.upto == 1 else Failed("odd", "it cannot be counted")

        world = await self.opened()
        await world.runner(count)
        cases = [
            ({"upto": 2}, "odd"),
            ({"upto": "x"}, "invalid-params"),
            ({"up": 1}, "invalid-params"),
            ({}, "invalid"),
        ]
        for params, code in cases:
            failed = await world.ended(await world.submit("count", params), State.FAILED)
            assert failed.error is not None
            self.assertEqual(failed.error.code, code)
        self.assertEqual(await world.left("count"), 0)

    async def test_a_write_that_raises(self) -> None:
        """An outcome whose write raises is not taken: nothing is written, and the slice is tried again."""

        def refuse(transaction: Transaction) -> None:
            raise ZeroDivisionError

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Done(write=refuse if context.job.attempt == 0 else None)

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count")
        await world.until(self._counts(lambda: world.types(id_).count("done"), 1), passing_s=0.2)
        self.assertEqual(world.types(id_), ["started", "retrying", "started", "done"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    # -- ending from outside ------------------------------------------------------------------------------------------

    async def test_cancel(self) -> None:
        """A cancel reaches the worker at once, and the job has ended as cancelled before the patience is over."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        cancelled = Deferred.fromCoroutine(cancel(world.jobs, world.broker, world.clock, id_))
        await world.ended(id_, State.CANCELLED)
        self.assertFalse(cancelled.called)
        self.assertEqual(gate.cancelled, 1)
        world.clock.advance(0.7)
        self.assertIs((await cancelled).state, State.CANCELLED)
        self.assertEqual(world.types(id_), ["started", "cancelled"])
        self.assertEqual(await world.left("count"), 0)

    async def test_cancel_by_heartbeat(self) -> None:
        """A worker that the signal has missed is told by the answer to its next heartbeat."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        await world.jobs.cancel(id_)
        world.clock.advance(2.0)
        await world.ended(id_, State.CANCELLED)
        self.assertEqual(gate.cancelled, 1)

    async def test_cancel_without_its_worker(self) -> None:
        """A job whose worker is gone or deaf is ended by whoever cancels it."""
        world = await self.opened()
        id_ = await world.submit("count")
        await self._steal(world, id_)
        cancelled = Deferred.fromCoroutine(cancel(world.jobs, world.broker, world.clock, id_))
        await world.until(self._counts(lambda: len(world.clock.getDelayedCalls()), 1), passing_s=0.2)
        await world.until(self._counts(lambda: int(cancelled.called), 1), passing_s=0.2)
        self.assertIs((await cancelled).state, State.CANCELLED)
        await world.ended(id_, State.CANCELLED)

    async def _steal(self, world: World, id_: str, thief: str = "thief") -> Claim:
        """What another process does that gets the message again."""
        request = ClaimRequest(id_, (await world.jobs.get(id_)).slice, thief, redelivered=True)
        claimed = await world.jobs.claim(request)
        assert isinstance(claimed, Claimed), claimed
        return claimed.claim

    async def test_superseded(self) -> None:
        """Who has lost the claim is stopped by the heartbeat, publishes nothing more, and changes nothing."""
        world, gate = await self.opened(), Gate()
        runner = await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        stolen = await self._steal(world, id_)
        world.clock.advance(2.0)
        await world.until(self._counts(lambda: gate.cancelled, 1))
        with self.assertRaises(Superseded):
            await gate.begun[0].emit("result", 1)
        await runner.stop()
        self.assertIs((await world.jobs.get(id_)).state, State.RUNNING)
        await world.jobs.end(stolen, State.DONE, result=b"2")
        self.assertEqual((await world.ended(id_)).result, b"2")
        self.assertEqual(world.types(id_), ["started", "done"])

    async def test_checkpoint(self) -> None:
        """A checkpoint writes while the claim is current; else it raises Superseded, and nothing is written."""

        def write(transaction: Transaction) -> None:
            transaction.execute(text("INSERT INTO notes VALUES (1)"))

        outcomes: list[Exception | None] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            await context.checkpoint(write)
            await self._steal(world, context.job.id)
            try:
                await context.checkpoint(write)
            except Superseded:
                tried.happen()
                raise
            return Done()

        tried = Once()
        world = await self.opened()
        await world.database.write(lambda transaction: transaction.execute(text("CREATE TABLE notes (n INTEGER)")))
        runner = await world.runner(count)
        id_ = await world.submit("count")
        await tried.wait()
        await runner.stop()
        notes = await world.database.read(lambda transaction: transaction.execute(text("SELECT n FROM notes")).all())
        self.assertEqual(len(notes), 1)
        self.assertIs((await world.jobs.get(id_)).state, State.RUNNING)
        self.assertEqual(outcomes, [])

    # -- signs of life ------------------------------------------------------------------------------------------------

    async def test_heartbeat_and_progress(self) -> None:
        """While it is performed a job has a fresh heartbeat and its latest progress; progress is pushed live, the
        latest wins, and goes to the caller of an RPC too."""
        world, gate = await self.opened(), Gate()
        live: list[Delivery] = []
        replies: list[Delivery] = []
        await world.runner(job("count", Count)(gate))
        queue = await world.broker.reply_queue(replies.append, lost=lambda: None)
        submission = Submission(type="count", params=b"{}", reply_to=queue.name, correlation_id="c7")
        id_ = (await world.jobs.submit(submission)).job.id
        bindings = [(topology.LIVE, topology.live_key(job_topic(id_)))]
        await world.broker.reply_queue(live.append, bindings=bindings, lost=lambda: None)
        await gate.has_begun()
        for done in range(10):
            gate.begun[0].progress(done=done, total=10)
        world.clock.advance(0.25)
        await world.until(self._counts(lambda: min(len(live), len(replies)), 2))
        shown = [decode_batch(delivery.message.body).events[0] for delivery in live]
        self.assertEqual([bytes(one.data) for one in shown], [b'{"done":0,"total":10}', b'{"done":9,"total":10}'])
        self.assertEqual(
            [(one.type, one.run, one.token, one.n) for one in shown], [("progress", 1, 1, n) for n in (1, 2)]
        )
        self.assertEqual({delivery.message.correlation_id for delivery in replies}, {"c7"})
        self.assertEqual(replies[1].message.body, b'{"done":9,"total":10}')
        world.clock.advance(1.75)
        now_ms = int(world.clock.seconds() * 1000)

        async def beaten() -> bool:
            return (await world.jobs.get(id_)).heartbeat_ms == now_ms

        await world.until(beaten)
        self.assertEqual((await world.jobs.get(id_)).progress, b'{"done":9,"total":10}')
        gate.go.happen()
        await world.ended(id_)

    async def test_final_progress(self) -> None:
        """An ended job shows the progress it showed last, though no heartbeat has seen it."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for done in range(4):
                context.progress(done=done, total=3)
            return Done()

        world = await self.opened()
        await world.runner(count)
        done = await world.ended(await world.submit("count"))
        self.assertEqual(done.progress, b'{"done":3,"total":3}')

    async def test_away_database(self) -> None:
        """While the database is away the work goes on; its end waits until it is back."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        await world.event(id_, "started")
        await world.database.stop()
        await world.advance(12.0)
        self.assertEqual(gate.cancelled, 0)
        gate.go.happen()
        await world.advance(5.0)
        self.assertEqual(world.types(id_), ["started"])
        await world.database.start()
        await world.until(self._counts(lambda: world.types(id_).count("done"), 1), passing_s=0.2)

    # -- messages -----------------------------------------------------------------------------------------------------

    async def test_foreign_message(self) -> None:
        """A message of a foreign client becomes a job, under its id, and is performed."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Done(context.params.upto)

        world = await self.opened()
        await world.runner(count)
        foreign = Message(body=b'{"upto": 7}', message_id="from-pika")
        for _ in range(2):
            await world.broker.publish(topology.JOBS, "count", foreign)
        self.assertEqual((await world.ended("from-pika")).result, b"7")
        self.assertEqual(world.types("from-pika"), ["started", "done"])
        self.assertEqual(await world.left("count"), 0)

    async def test_bad_messages(self) -> None:
        """A message that no job can be is dead-lettered with its reason, and the worker goes on."""
        dead: list[Delivery] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Done()

        world = await self.opened()
        await world.runner(count)
        await world.broker.consume(topology.DEAD_QUEUE, dead.append, prefetch=10)
        await world.broker.publish(topology.JOBS, "count", Message(body=b"\xff no JSON", message_id="a"))
        await world.broker.publish(topology.JOBS, "count", Message(body=b"{}", message_id="b c"))
        await world.broker.publish(topology.JOBS, "count", Message(body=b"{}", message_id="d", reply_to="msgd.dead"))
        await world.ended(await world.submit("count"))
        await world.until(self._counts(lambda: len(dead), 3))
        reasons = {letter.message.message_id: str(letter.message.headers["msgd-reason"]) for letter in dead}
        self.assertTrue(reasons["a"].startswith("not-json: body: "), reasons)
        self.assertTrue(reasons["b c"].startswith("invalid: message_id: "), reasons)
        self.assertTrue(reasons["d"].startswith("invalid: reply_to: "), reasons)
        for letter in dead:
            letter.ack()
        self.assertEqual(await world.left("count"), 0)

    async def test_copies(self) -> None:
        """Copies of a job's message are acknowledged and nothing else: before, during and after its performance."""
        world, gate = await self.opened(), Gate()
        id_ = await world.submit("count")
        copy = Message(body=b"{}", message_id=id_, headers={"msgd-slice": 0})
        await world.broker.declare_type("count")
        await world.broker.publish(topology.JOBS, "count", copy)
        await world.runner(job("count", Count)(gate))
        await gate.has_begun()
        await world.broker.publish(topology.JOBS, "count", copy)
        gate.go.happen()
        await world.ended(id_)
        await world.broker.publish(topology.JOBS, "count", copy)
        await world.ended(await world.submit("count"))
        self.assertEqual(len(gate.begun), 2)
        self.assertEqual(await world.left("count"), 0)

    async def test_alone(self) -> None:
        """A slice that took two processes down is performed with nothing beside it: the others save first, and later
        ones wait."""
        world, gate, other = await self.opened(), Gate(), Gate()

        async def heeds(context: Context[Count]) -> Outcome:
            other.begun.append(context)
            began.happen()
            await context.over()
            return Continue() if context.job.slice == 0 else Done()

        began = Once()
        suspect = await world.submit("count")
        for thief in ("first", "second"):
            await self._steal(world, suspect, thief)
        await world.broker.declare_type("count")
        # The message comes to a process of ours while another job is being performed there.
        await world.runner(job("heeds", Count)(heeds), job("count", Count)(gate))
        beside = await world.submit("heeds")
        await began.wait()
        world.clock.advance(10.0)  # the thief's heartbeat is stale now
        await world.broker.publish(
            topology.JOBS, "count", Message(body=b"{}", message_id=suspect, headers={"msgd-slice": 0})
        )
        await gate.has_begun()
        self.assertEqual((await world.jobs.get(beside)).slice, 1)
        await world.advance(1.0)
        self.assertEqual(len(other.begun), 1)
        gate.go.happen()
        await world.ended(suspect)
        await world.until(self._counts(lambda: len(other.begun), 2), passing_s=0.0)
        await world.until(self._counts(lambda: world.types(beside).count("done"), 1), passing_s=0.5)

    # -- pause and stop -----------------------------------------------------------------------------------------------

    async def test_pause(self) -> None:
        """A paused type takes no new slices, in any process within a heartbeat, and goes on when it is resumed."""
        world, gate = await self.opened(), Gate()
        gate.go.happen()
        await world.runner(job("count", Count)(gate))
        await world.jobs.pause("count", True)
        await world.advance(4.0)
        id_ = await world.submit("count")
        await world.advance(1.0)
        self.assertEqual(gate.begun, [])
        await world.jobs.pause("count", False)
        await world.advance(2.0)
        await world.ended(id_)

    async def test_paused_before_the_start(self) -> None:
        """A process that starts while a type is paused takes none of it."""
        world, gate = await self.opened(), Gate()
        gate.go.happen()
        count = job("count", Count)(gate)
        await (await world.runner(count)).stop()
        await world.jobs.pause("count", True)
        await world.submit("count")
        await world.runner(count)
        await world.advance(1.0)
        self.assertEqual(gate.begun, [])

    async def test_drain(self) -> None:
        """A stop ends the slices, which save; another process goes on from there."""
        states: list[Any] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            states.append(context.state)
            if context.state == "saved":
                return Done()
            began.happen()
            await context.over()
            return Continue("saved")

        began = Once()
        world = await self.opened()
        runner = await world.runner(count)
        id_ = await world.submit("count")
        await began.wait()
        await runner.stop()
        self.assertEqual(states, [None])
        await world.runner(count)
        await world.ended(id_)
        self.assertEqual(states, [None, "saved"])

    async def test_a_worker_that_does_not_save(self) -> None:
        """After the grace time a slice is abandoned and its message given back: another process repeats it."""
        world, gate, second = await self.opened(), Gate(), Gate()
        second.go.happen()
        runner = await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        begin = world.clock.seconds()
        await world.passing(runner.stop())
        self.assertGreaterEqual(world.clock.seconds() - begin, GRACE_S)
        self.assertEqual(gate.cancelled, 1)
        await world.runner(job("count", Count)(second))
        await world.ended(id_)
        self.assertEqual(world.types(id_), ["started", "started", "done"])
        self.assertEqual(len({event.id for event in world.of(id_)}), 2)

    async def test_what_waits_goes_back(self) -> None:
        """Messages taken ahead go back at a stop, and are performed elsewhere."""
        world, gate = await self.opened(), Gate()
        count = job("count", Count)(gate)
        first = await world.runner(count, concurrency=1)
        ids = [await world.submit("count") for _ in range(3)]
        await gate.has_begun()
        await world.advance(0.5)
        stopped = Deferred.fromCoroutine(first.stop())
        gate.go.happen()
        await stopped
        await world.runner(count)
        for id_ in ids:
            await world.ended(id_)
        self.assertEqual(len(gate.begun), 3)

    async def test_stops_at_any_moment(self) -> None:
        """However early or late a process stops, no job is lost, none is ended twice, and every result is there."""
        world = await self.opened()
        await world.broker.declare_type("count")
        ids = [await world.submit("count", {"upto": 3}) for _ in range(12)]

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            at = context.state or 0
            await context.emit("result", at, key=str(at))
            return Done() if at == context.params.upto else Continue(at + 1)

        for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
            runner = world.new_runner(count, concurrency=3)
            started = Deferred.fromCoroutine(runner.start())
            started.addErrback(lambda failure: failure.trap(CancelledError))
            for _ in range(turns):
                await world.turn()
            stops = [Deferred.fromCoroutine(runner.stop()) for _ in range(2)]
            for one in (*stops, started):
                await one
        await world.runner(count)
        for id_ in ids:
            await world.ended(id_)
            events = list(dict.fromkeys(event.id for event in world.of(id_)))
            self.assertEqual(len(events), 6)
            self.assertEqual(world.types(id_).count("done"), 1)
        self.assertEqual(await world.left("count"), 0)
