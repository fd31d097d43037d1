"""The contract of ``msgd.broker.interface``: marks, and starting and stopping."""

from __future__ import annotations

from twisted.internet import defer
from twisted.internet.defer import Deferred

from msgd.broker import topology
from msgd.broker.interface import Consumer
from msgd.errors import BrokerUnavailable
from tests.contract.broker_base import JOBS, BrokerBase, Inbox, Watcher, message


class StandingContract(BrokerBase):
    """The part about marks, and starting and stopping."""

    # -- marks ---------------------------------------------------------------------------------------------------------

    async def test_marks(self) -> None:
        """A mark is missing until it is set, and outlives the broker's restart."""
        broker = await self.opened()
        self.assertFalse(await broker.has_mark("epoch1"))
        await broker.set_mark("epoch1")
        await broker.set_mark("epoch1")
        self.assertTrue(await broker.has_mark("epoch1"))
        self.assertFalse(await broker.has_mark("epoch2"))
        await broker.stop()
        broker = await self.opened()
        self.assertTrue(await broker.has_mark("epoch1"))

    async def test_questions_without_a_connection(self) -> None:
        """Marks and depths do not wait for a connection: before ``start`` and after ``stop`` they fail."""
        broker = self.make_broker()

        async def ask_in_vain() -> None:
            with self.assertRaises(BrokerUnavailable):
                await broker.has_mark("epoch1")
            with self.assertRaises(BrokerUnavailable):
                await broker.set_mark("epoch1")
            with self.assertRaises(BrokerUnavailable):
                await broker.depths([JOBS])

        await ask_in_vain()
        await broker.start()
        await broker.stop()
        await ask_in_vain()

    # -- life ----------------------------------------------------------------------------------------------------------

    async def test_observer_and_ready(self) -> None:
        """Observers hear of the connection, late ones at once; ``ready`` fires; ``accepting`` follows."""
        broker = self.make_broker()
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        early, late = Watcher(), Watcher()
        broker.observe(early)
        ready = broker.ready()
        self.assertFalse(broker.accepting)
        self.assertFalse(ready.called)
        await broker.start()
        await ready
        await broker.ready()
        broker.observe(late)
        self.assertEqual((early.told, late.told), (["connected"], ["connected"]))
        self.assertTrue(broker.accepting)
        self.assertTrue(broker.description)
        await broker.stop()
        self.assertFalse(broker.accepting)

    async def test_no_shortcomings(self) -> None:
        """A broker that has all that msgd builds on is told so, and is left as it was."""
        broker = await self.opened()
        self.assertEqual(list(await broker.shortcomings()), [])
        await self.publish(broker, 0, 1, exchange=topology.EVENTS, key="room.a")

    async def test_ready_can_be_cancelled(self) -> None:
        """Whoever waits for the connection may give up without harm to the others."""
        broker = self.make_broker()
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        given_up, patient = broker.ready(), broker.ready()
        given_up.cancel()
        self.failureResultOf(given_up, defer.CancelledError)
        await broker.start()
        await patient

    async def test_ready_after_stop(self) -> None:
        """Nobody waits for a broker that was stopped, not even one that never stood; who asks too early waits."""
        for started in (False, True):
            broker = self.make_broker()
            early = broker.ready()
            self.assertFalse(early.called)
            if started:
                await broker.start()
                await early
            await broker.stop()
            if not started:
                self.failureResultOf(early, BrokerUnavailable)
            self.failureResultOf(broker.ready(), BrokerUnavailable)

    async def test_publish_without_a_connection(self) -> None:
        """A publish before ``start`` or after ``stop`` fails with BrokerUnavailable."""
        broker = self.make_broker()
        with self.assertRaises(BrokerUnavailable):
            await broker.publish(topology.JOBS, "crawl", message(1))
        await broker.start()
        await broker.stop()
        with self.assertRaises(BrokerUnavailable):
            await broker.publish(topology.JOBS, "crawl", message(1))

    async def test_stop_twice_and_never_started(self) -> None:
        """Stopping a broker that was never started, or twice, is harmless; so is stopping its consumers afterwards."""
        broker = self.make_broker()
        await broker.stop()
        broker = await self.opened()
        consumers: list[Consumer] = []
        await broker.declare_type("crawl")
        consumers.append(await broker.consume(JOBS, Inbox(), prefetch=1))
        consumers.append(await broker.consume(topology.TALK_QUEUE, Inbox(), prefetch=1, ordered=True))
        replies = await broker.reply_queue(Inbox(), lost=lambda: None)
        await broker.stop()
        await broker.stop()
        for consumer in consumers:
            await consumer.stop()
        await replies.close()
