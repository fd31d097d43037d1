"""The contract of ``msgd.broker.interface``: where messages go, and who is given them."""

from __future__ import annotations

from twisted.internet import defer

from msgd.broker import topology
from msgd.broker.interface import HELD_BYTES, Delivery
from msgd.errors import Unroutable
from msgd.messages.envelope import Message
from tests.contract.broker_base import JOBS, BrokerBase, Inbox, ack, message, numbers


class ConsumingContract(BrokerBase):
    """The part about routing, consumers and reply queues."""

    # -- routing -------------------------------------------------------------------------------------------------------

    async def test_events_part_by_topic(self) -> None:
        """Events of jobs go to one queue, all others to the other."""
        broker = await self.opened()
        jobs, talk = Inbox(ack), Inbox(ack)
        await broker.consume(topology.JOB_EVENTS_QUEUE, jobs, prefetch=10)
        await broker.consume(topology.TALK_QUEUE, talk, prefetch=10)
        await broker.publish(topology.EVENTS, "job.1", message(1))
        await broker.publish(topology.EVENTS, "room.lobby", message(2))
        await broker.publish(topology.EVENTS, "job.2.extra", message(3))
        self.assertEqual([each.key for each in await jobs.take(2)], ["job.1", "job.2.extra"])
        self.assertEqual([each.key for each in await talk.take()], ["room.lobby"])

    async def test_priorities_of_a_job_type(self) -> None:
        """A job type has three queues: new, high and continuations."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        queues = topology.job_queues("crawl")
        for number, key in enumerate(("crawl", "crawl.high", "crawl.more")):
            await broker.publish(topology.JOBS, key, message(number), mandatory=True)
        depths = await broker.depths([queues.new.name, queues.high.name, queues.more.name, "no.such.queue"])
        self.assertEqual(depths, {queues.new.name: 1, queues.high.name: 1, queues.more.name: 1})

    async def test_mandatory(self) -> None:
        """A mandatory message that no queue takes fails with Unroutable, its neighbours do not; others just vanish."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        outcomes = await defer.DeferredList(
            [
                broker.publish(topology.JOBS, "crawl", message(1), mandatory=True),
                broker.publish(topology.LIVE, "nowhere", message(2), mandatory=True),
                broker.publish(topology.LIVE, "nowhere", message(2)),
                broker.publish(topology.LIVE, "elsewhere", message(2), mandatory=True),
                broker.publish(topology.JOBS, "crawl", message(2), mandatory=True),
            ],
            consumeErrors=True,
        )
        self.assertEqual([success for success, _ in outcomes], [True, False, True, False, True])
        for number in (1, 3):
            outcomes[number][1].trap(Unroutable)  # type: ignore[attr-defined]  # of who failed it is a Failure

    async def test_default_exchange(self) -> None:
        """The exchange "" takes a queue's name as key."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        inbox = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=1)
        await broker.publish("", JOBS, message(5), mandatory=True)
        (delivery,) = await inbox.take()
        self.assertEqual((delivery.exchange, delivery.key), ("", JOBS))

    # -- consumers -----------------------------------------------------------------------------------------------------

    async def test_two_consumers_share_a_queue(self) -> None:
        """Two consumers of one queue each get a part, no message goes to both."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        left, right = Inbox(), Inbox()
        await broker.consume(JOBS, left, prefetch=1)
        await broker.consume(JOBS, right, prefetch=1)
        await self.publish(broker, 0, 2)
        got = numbers(await left.take()) + numbers(await right.take())
        self.assertEqual(sorted(got), [0, 1])

    async def test_stop_a_consumer(self) -> None:
        """A stopped consumer gets nothing more; deliveries in hand can still be acked; stopping twice is harmless."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 3)
        inbox = Inbox()
        consumer = await broker.consume(JOBS, inbox, prefetch=3)
        deliveries = await inbox.take(3)
        await consumer.stop()
        await self.publish(broker, 3, 5)
        await consumer.stop()
        self.assertEqual(len(inbox.seen), 3)
        for delivery in deliveries:
            self.assertTrue(delivery.current)
            delivery.ack()
        again = Inbox(ack)
        await broker.consume(JOBS, again, prefetch=10)
        self.assertEqual(numbers(await again.take(2)), [3, 4])
        await broker.stop()
        broker = await self.opened()
        await broker.declare_type("crawl")
        self.assertEqual(await broker.depths([JOBS]), {JOBS: 0})

    async def test_ordered_consumer_gives_back_in_order(self) -> None:
        """Stopping an ordered consumer returns all it had not acked, in order, before anything newer."""
        broker = await self.opened()
        await self.publish(broker, 0, 200, exchange=topology.EVENTS, key="job.1")
        inbox = Inbox()
        consumer = await broker.consume(topology.JOB_EVENTS_QUEUE, inbox, prefetch=100, ordered=True)
        deliveries = await inbox.take(60)
        for delivery in deliveries[:20]:
            delivery.ack()
        await consumer.stop()
        deliveries[30].ack()  # cannot reach the broker any more
        await consumer.stop()
        again = Inbox(ack)
        await broker.consume(topology.JOB_EVENTS_QUEUE, again, prefetch=100, ordered=True)
        self.assertEqual(numbers(await again.take(180)), list(range(20, 200)))

    async def test_ordered_consumer_holds_bytes_within_bounds(self) -> None:
        """However many it may hold, an ordered consumer is not handed more bytes than HELD_BYTES, and one message."""
        broker = await self.opened()
        size = 1024 * 1024
        fitting = HELD_BYTES // size
        bodies = [b"%d" % n + bytes(size) for n in range(fitting + 8)]
        for body in bodies:
            await broker.publish(topology.EVENTS, "room.a", Message(body=body))
        inbox = Inbox()
        await broker.consume(topology.TALK_QUEUE, inbox, prefetch=1000, ordered=True)
        first = await inbox.take(fitting)
        for _ in range(20):  # a broker that wanted to send on has had the time to
            await broker.depths([topology.TALK_QUEUE])
        self.assertLessEqual(len(inbox.seen), fitting + 1)
        for delivery in first:
            delivery.ack()
        rest = await inbox.take(8)
        self.assertEqual([each.message.body for each in (*first, *rest)], bodies)

    async def test_ordered_consumers_take_turns(self) -> None:
        """Of two ordered consumers of a queue one is served; the other follows when that one stops."""
        broker = await self.opened()
        first, second = Inbox(), Inbox(ack)
        leader = await broker.consume(topology.JOB_EVENTS_QUEUE, first, prefetch=10, ordered=True)
        await broker.consume(topology.JOB_EVENTS_QUEUE, second, prefetch=10, ordered=True)
        await self.publish(broker, 0, 30, exchange=topology.EVENTS, key="job.1")
        deliveries = await first.take(10)
        deliveries[0].ack()
        await first.take(1)
        self.assertEqual(second.seen, [])
        await leader.stop()
        self.assertEqual(numbers(await second.take(29)), list(range(1, 30)))

    # -- reply queues --------------------------------------------------------------------------------------------------

    async def test_reply_queue(self) -> None:
        """A reply queue gets what its bindings name and what is sent to its name, and no longer after ``unbind``."""
        broker = await self.opened()
        inbox = Inbox()
        bindings = [(topology.LIVE, "1"), (topology.CONTROL, "cancel.*")]
        replies = await broker.reply_queue(inbox, bindings=bindings, lost=lambda: None)
        await broker.publish(topology.LIVE, "1", message(1), mandatory=True)
        await broker.publish(topology.CONTROL, "cancel.j1", message(2), mandatory=True)
        await broker.publish("", replies.name, message(3), mandatory=True)
        await replies.bind(topology.LIVE, "2")
        await replies.bind(topology.LIVE, "2")
        await broker.publish(topology.LIVE, "2", message(4), mandatory=True)
        self.assertEqual(numbers(await inbox.take(4)), [1, 2, 3, 4])
        await replies.unbind(topology.LIVE, "2")
        with self.assertRaises(Unroutable):
            await broker.publish(topology.LIVE, "2", message(5), mandatory=True)
        inbox.seen[0].ack()  # acknowledged already: harmless
        await replies.close()
        await replies.close()
        with self.assertRaises(Unroutable):
            await broker.publish(topology.LIVE, "1", message(6), mandatory=True)

    async def test_control_patterns(self) -> None:
        """Bindings to msgd.control are topic patterns; a message goes to every reply queue that matches."""
        broker = await self.opened()
        one, all_ = Inbox(), Inbox()
        await broker.reply_queue(one, bindings=[(topology.CONTROL, "wake.a")], lost=lambda: None)
        await broker.reply_queue(all_, bindings=[(topology.CONTROL, "#")], lost=lambda: None)
        await broker.publish(topology.CONTROL, "wake.b", message(1))
        await broker.publish(topology.CONTROL, "wake.a", message(2))
        await broker.publish(topology.CONTROL, "revoke", message(3))
        self.assertEqual(numbers(await all_.take(3)), [1, 2, 3])
        self.assertEqual(numbers(await one.take()), [2])

    async def test_error_in_a_reply_callback(self) -> None:
        """An error raised by a reply queue's callback is logged, and the next message comes."""
        broker = await self.opened()

        def fussy(delivery: Delivery) -> None:
            if delivery.message.body == b"1":
                raise ZeroDivisionError("no ones")

        inbox = Inbox(fussy)
        await broker.reply_queue(inbox, bindings=[(topology.LIVE, "1")], lost=lambda: None)
        await self.publish(broker, 0, 3, exchange=topology.LIVE, key="1")
        self.assertEqual(numbers(await inbox.take(3)), [0, 1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
