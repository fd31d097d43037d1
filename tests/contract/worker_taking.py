"""Which messages are taken, when none is, and what becomes of them at a stop."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from msgd.broker import topology
from msgd.broker.interface import Delivery
from msgd.messages.envelope import Message
from msgd.work import Context, Continue, Done, Outcome, job
from msgd.work.floor import GRACE_S
from msgd.work.once import Once
from tests.contract.worker_ground import Count, Gate, WorkerBase


class TakingContract(WorkerBase):
    """Foreign, bad and superfluous messages; pause and stop."""

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
        await world.until(self.counts(lambda: len(dead), 3))
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
            await self.steal(world, suspect, thief)
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
        await world.until(self.counts(lambda: len(other.begun), 2), passing_s=0.0)
        await world.until(self.counts(lambda: world.types(beside).count("done"), 1), passing_s=0.5)

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
        # A heartbeat that is late on a busy machine begins its two seconds later than ours.
        await world.passing(world.ended(id_))

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
        self.assertEqual(world.types(id_), ["started", "done"])

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
            self.assertEqual(world.types(id_), ["started", *["result"] * 4, "done"])
        self.assertEqual(await world.left("count"), 0)
