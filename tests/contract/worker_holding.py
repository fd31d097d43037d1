"""What comes from outside while a job is performed, on every broker and database."""

from __future__ import annotations

from sqlalchemy import text
from twisted.internet.defer import Deferred

from msgd.broker import topology
from msgd.broker.interface import Delivery
from msgd.database import Transaction
from msgd.errors import Superseded
from msgd.jobs.interface import State, Submission
from msgd.messages.live import decode_batch
from msgd.messages.topics import job_topic
from msgd.work import Context, Continue, Done, Outcome, job
from msgd.work.cancel import cancel
from msgd.work.once import Once
from tests.contract.worker_ground import Count, Gate, WorkerBase


class HoldingContract(WorkerBase):
    """Cancels, lost claims, signs of life."""

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

    async def test_cancel_between_two_slices(self) -> None:
        """A job that has put itself off ends in the transaction of its cancel, and is never called again."""
        world = await self.opened()
        paused = Once()

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            self.assertFalse(paused.happened, "called again")
            paused.happen()
            return Continue(after_s=5.0)

        await world.runner(count)
        id_ = await world.submit("count")
        await paused.wait()

        async def put_off() -> bool:
            return (await world.jobs.get(id_)).slice == 1

        await world.until(put_off)
        self.assertIs((await cancel(world.jobs, world.broker, world.clock, id_)).state, State.CANCELLED)
        await world.advance(8.0)
        await world.ended(id_, State.CANCELLED)
        self.assertEqual(world.types(id_), ["started", "cancelled"])
        self.assertEqual(await world.left("count"), 0)

    async def test_cancel_by_heartbeat(self) -> None:
        """A worker that the signal has missed is told by the answer to its next heartbeat."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        await world.jobs.cancel(id_)
        await world.passing(world.ended(id_, State.CANCELLED))
        self.assertEqual(gate.cancelled, 1)

    async def test_cancel_without_its_worker(self) -> None:
        """A job whose worker is gone or deaf is ended by whoever cancels it."""
        world = await self.opened()
        id_ = await world.submit("count")
        await self.steal(world, id_)
        cancelled = Deferred.fromCoroutine(cancel(world.jobs, world.broker, world.clock, id_))
        await world.until(self.counts(lambda: len(world.clock.getDelayedCalls()), 1), passing_s=0.2)
        await world.until(self.counts(lambda: int(cancelled.called), 1), passing_s=0.2)
        self.assertIs((await cancelled).state, State.CANCELLED)
        await world.ended(id_, State.CANCELLED)

    async def test_superseded(self) -> None:
        """Who has lost the claim is stopped by the heartbeat, publishes nothing more, and changes nothing."""
        world, gate = await self.opened(), Gate()
        runner = await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        stolen = await self.steal(world, id_)
        world.clock.advance(2.0)
        await world.until(self.counts(lambda: gate.cancelled, 1))
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
            await self.steal(world, context.job.id)
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
        await world.until(self.counts(lambda: min(len(live), len(replies)), 2))
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
        await world.until(self.counts(lambda: world.types(id_).count("done"), 1), passing_s=0.2)
