"""The worker runtime on RabbitMQ and PostgreSQL, and what only a broker elsewhere can do to it."""

from __future__ import annotations

from functools import partial

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.broker.amqp import AmqpBroker
from msgd.broker.interface import Broker
from msgd.work import Context, Done, Outcome, job
from msgd.work.once import Once
from tests.contract.worker import WorkerContract
from tests.contract.worker_ground import Count, Gate
from tests.servers import postgres, rabbitmq
from tests.work.world import World


class RabbitWorkerTests(WorkerContract, TestCase):
    timeout = 180

    def setUp(self) -> None:
        self.vhost = rabbitmq.fresh_vhost(self)

    def database_url(self) -> str:
        return postgres.fresh_database(self)

    def make_broker(self) -> Broker:
        return AmqpBroker(reactor, [rabbitmq.node().url(self.vhost)], name="test", jitter=lambda: 0.0)

    async def cut(self) -> None:
        """All connections are lost at once."""
        await deferToThread(rabbitmq.node().cut_connections, self.vhost)

    async def test_cut_while_it_works(self) -> None:
        """A slice goes on over a lost connection: its redelivered message is the one that is acknowledged."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate))
        id_ = await world.submit("count")
        await gate.has_begun()
        await self.cut()
        # Another job after the reconnect shows that the consumers stand again, and that the first one was not repeated.
        other = await world.submit("count")
        await world.until(self.counts(lambda: len(gate.begun), 2), passing_s=0.05)
        gate.go.happen()
        for one in (id_, other):
            await world.until(self.counts(partial(self.done, world, one), 1), passing_s=0.05)
        self.assertEqual([context.job.id for context in gate.begun], [id_, other])
        self.assertEqual(await world.left("count"), 0)

    def done(self, world: World, id_: str) -> int:
        return world.types(id_).count("done")

    async def test_cut_while_it_emits(self) -> None:
        """Events of which the confirms were lost are published again under their ids: all are there, in order."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for number in range(context.params.upto):
                context.emit("result", number, key=str(number))
                if number == context.params.upto // 2:
                    half.happen()
                    await go.wait()
            return Done()

        half, go = Once(), Once()
        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 2000})
        await half.wait()
        await self.cut()
        go.happen()
        await world.until(self.counts(partial(self.done, world, id_), 1), passing_s=0.05)
        results = list(dict.fromkeys(event.data for event in world.of(id_) if event.type == "result"))
        self.assertEqual([int(data) for data in results], list(range(2000)))
        self.assertEqual(world.types(id_)[-1], "done")

    async def test_a_process_that_dies(self) -> None:
        """What a dead process held comes to another one at once, with its heartbeat still fresh."""
        world, gate, second = await self.opened(), Gate(), Gate()
        second.go.happen()
        dying = self.make_broker()
        await dying.start()
        await world.runner(job("count", Count)(gate), broker=dying)
        id_ = await world.submit("count")
        await gate.has_begun()
        await dying.stop()  # as its connection would end with it
        await world.runner(job("count", Count)(second))
        ended = await world.ended(id_)
        self.assertEqual(ended.token, 2)
        world.clock.advance(2.0)
        await world.until(self.counts(lambda: gate.cancelled, 1))
