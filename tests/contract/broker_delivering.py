"""The contract of ``msgd.broker.interface``: what is published arrives, and is settled."""

from __future__ import annotations

from twisted.internet import defer, reactor, task
from twisted.internet.defer import Deferred

from msgd.broker import topology
from msgd.broker.interface import Delivery
from msgd.errors import NotFound
from msgd.messages.envelope import HeaderValue, Message
from tests.contract.broker_base import JOBS, BrokerBase, Inbox, ack, message, numbers


class DeliveringContract(BrokerBase):
    """The part about messages on their way, and what becomes of them."""

    # -- publish and consume -------------------------------------------------------------------------------------------

    async def test_roundtrip_of_a_full_message(self) -> None:
        """Body, every property and every kind of header arrive as they were sent."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        inbox = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=10)
        sent = Message(
            body='{"name": "Žluťoučký kůň"}'.encode(),
            content_type="application/json",
            content_encoding="identity",
            message_id="id-1",
            type="created",
            app_id="tests",
            timestamp=1_700_000_000,
            reply_to="answers",
            correlation_id="c-1",
            persistent=True,
            priority=3,
            headers={
                "none": None,
                "yes": True,
                "no": False,
                "small": 7,
                "negative": -1,
                "big": 2**40,
                "float": 1.5,
                "text": "kůň",
                "bytes": b"\xff\x00",
                "list": [1, "two", None, [3]],
                "table": {"a": {"b": -2}},
            },
        )
        await broker.publish(topology.JOBS, "crawl", sent)
        (delivery,) = await inbox.take()
        self.assertEqual(delivery.message, sent)
        self.assertEqual(delivery.exchange, topology.JOBS)
        self.assertEqual(delivery.key, "crawl")
        self.assertEqual(delivery.queue, JOBS)
        self.assertFalse(delivery.redelivered)

    async def test_bodies_of_every_size(self) -> None:
        """Empty, large and non-UTF-8 bodies arrive as the bytes they were."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        inbox = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=10)
        bodies = [b"", b"\x00", b"\xff" * 200, b"a" * 131_064 + b"\xff" * 1000, b"\xff" * 131_064 + b"a" * 1000]
        bodies.append(bytes(range(256)) * 4096)
        for body in bodies:
            await broker.publish(topology.JOBS, "crawl", Message(body=body))
        self.assertEqual([each.message.body for each in await inbox.take(len(bodies))], bodies)

    async def test_order(self) -> None:
        """Messages published in one turn arrive in the order of the calls."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        inbox = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=20)
        await self.publish(broker, 0, 300)
        self.assertEqual(numbers(await inbox.take(300)), list(range(300)))

    async def test_prefetch(self) -> None:
        """No more than ``prefetch`` deliveries are in hand; each ack lets the next one come."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 5)
        inbox = Inbox()
        await broker.consume(JOBS, inbox, prefetch=2)
        first = await inbox.take(2)
        await self.settled(broker, JOBS, 3)
        self.assertEqual(len(inbox.seen), 2)
        first[1].ack()
        self.assertEqual(numbers(await inbox.take()), [2])
        first[0].ack()
        self.assertEqual(numbers(await inbox.take()), [3])

    async def test_messages_wait_for_a_consumer(self) -> None:
        """What was confirmed is there for a consumer that comes later, after the broker was opened anew."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 3)
        await broker.stop()
        broker = await self.opened()
        inbox = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=10)
        self.assertEqual(numbers(await inbox.take(3)), [0, 1, 2])

    async def test_consume_of_an_unknown_queue(self) -> None:
        """Consuming a queue that does not exist raises NotFound, and the broker goes on."""
        broker = await self.opened()
        for ordered in (False, True):
            with self.assertRaises(NotFound):
                await broker.consume("no.such.queue", Inbox(), prefetch=1, ordered=ordered)
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 1)

    async def test_cancelled_consume(self) -> None:
        """Whoever stops waiting for a consumer to stand leaves none behind that would keep messages."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 3)
        taken: list[Delivery] = []
        for turns in range(8):
            consuming = Deferred.fromCoroutine(broker.consume(JOBS, taken.append, prefetch=1))
            for _ in range(turns):
                await task.deferLater(reactor, 0)
            if consuming.called:
                consumer = await consuming
                await consumer.stop()
                break
            consuming.cancel()
            with self.assertRaises(defer.CancelledError):
                await consuming
        for delivery in taken:
            if delivery.current:
                delivery.requeue()
        inbox = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=10)
        self.assertEqual(sorted(numbers(await inbox.take(3))), [0, 1, 2])

    # -- acknowledgement -----------------------------------------------------------------------------------------------

    async def test_unacknowledged_come_again(self) -> None:
        """Deliveries not acked when the broker was stopped come again, in order and marked; acked ones do not."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 4)
        inbox = Inbox()
        await broker.consume(JOBS, inbox, prefetch=10)
        deliveries = await inbox.take(4)
        deliveries[1].ack()
        self.assertTrue(deliveries[0].current)
        await broker.stop()
        self.assertFalse(deliveries[0].current)
        deliveries[0].ack()  # too late: nothing happens

        broker = await self.opened()
        again = Inbox(ack)
        await broker.consume(JOBS, again, prefetch=10)
        back = await again.take(3)
        self.assertEqual(numbers(back), [0, 2, 3])
        self.assertEqual([each.redelivered for each in back], [True, True, True])

    async def test_acks_survive_stop(self) -> None:
        """Acks given just before ``stop`` are not lost."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 50)
        inbox = Inbox()
        await broker.consume(JOBS, inbox, prefetch=100)
        for delivery in await inbox.take(50):
            delivery.ack()
        await broker.stop()
        broker = await self.opened()
        await broker.declare_type("crawl")
        self.assertEqual(await broker.depths([JOBS]), {JOBS: 0})

    async def test_requeue(self) -> None:
        """A delivery given back comes again, marked as redelivered."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 1)
        inbox = Inbox()
        await broker.consume(JOBS, inbox, prefetch=10)
        (delivery,) = await inbox.take()
        delivery.requeue()
        (delivery,) = await inbox.take()
        self.assertTrue(delivery.redelivered)
        self.assertEqual(numbers([delivery]), [0])
        delivery.ack()

    async def test_mixed_settling_in_any_order(self) -> None:
        """Acks in any order, mixed with a requeue, settle each its own delivery and no other."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        await self.publish(broker, 0, 10)
        inbox = Inbox()
        await broker.consume(JOBS, inbox, prefetch=100)
        deliveries = await inbox.take(10)
        for number in (9, 1, 0, 5, 3):
            deliveries[number].ack()
        deliveries[4].requeue()
        (back,) = await inbox.take()
        self.assertEqual(numbers([back]), [4])
        for number in (2, 8):
            deliveries[number].ack()
        await broker.stop()
        broker = await self.opened()
        again = Inbox(ack)
        await broker.consume(JOBS, again, prefetch=100)
        self.assertEqual(sorted(numbers(await again.take(3))), [4, 6, 7])
        self.assertEqual(await broker.depths([JOBS]), {JOBS: 0})

    # -- dead letters --------------------------------------------------------------------------------------------------

    async def test_dead(self) -> None:
        """``dead`` moves a delivery to msgd.dead with its reason and where it came from, then acks it."""
        broker = await self.opened()
        await broker.declare_type("crawl")
        traces: dict[str, HeaderValue] = {"x-death": [{"count": 1}], "x-last-death-queue": "q", "x-delivery-count": 3}
        sent = Message(
            body=b"not json", message_id="m", headers={"mine": 1, **traces}, persistent=False, expiration="600000"
        )
        await broker.publish(topology.JOBS, "crawl", sent)
        inbox = Inbox()
        await broker.consume(JOBS, inbox, prefetch=1)
        graves = Inbox(ack)
        await broker.consume(topology.DEAD_QUEUE, graves, prefetch=1)
        (delivery,) = await inbox.take()
        await delivery.dead("not JSON: č")
        (grave,) = await graves.take()
        self.assertEqual(grave.message.body, b"not json")
        self.assertEqual(grave.message.message_id, "m")
        self.assertEqual((grave.message.persistent, grave.message.expiration), (True, ""))
        self.assertEqual(
            grave.message.headers,
            {
                "mine": 1,
                "msgd-reason": "not JSON: č",
                "msgd-queue": JOBS,
                "msgd-exchange": topology.JOBS,
                "msgd-key": "crawl",
            },
        )
        await broker.stop()
        broker = await self.opened()
        await broker.declare_type("crawl")
        self.assertEqual(await broker.depths([JOBS, topology.DEAD_QUEUE]), {JOBS: 0, topology.DEAD_QUEUE: 0})

    async def test_error_in_a_callback(self) -> None:
        """An error raised by the callback is logged, its delivery is made dead, and the consumer goes on."""
        broker = await self.opened()
        await broker.declare_type("crawl")

        def fussy(delivery: Delivery) -> None:
            if delivery.message.body == b"1":
                raise ZeroDivisionError("no ones")
            delivery.ack()

        inbox = Inbox(fussy)
        graves = Inbox(ack)
        await broker.consume(JOBS, inbox, prefetch=1)
        await broker.consume(topology.DEAD_QUEUE, graves, prefetch=1)
        await self.publish(broker, 0, 3)
        self.assertEqual(numbers(await inbox.take(3)), [0, 1, 2])
        (grave,) = await graves.take()
        self.assertEqual(grave.message.body, b"1")
        self.assertIn("no ones", str(grave.message.headers["msgd-reason"]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_unknown_job_type_is_dead(self) -> None:
        """A job message that no queue takes lands in msgd.dead; published mandatory it counts as routed."""
        broker = await self.opened()
        graves = Inbox(ack)
        await broker.consume(topology.DEAD_QUEUE, graves, prefetch=1)
        await broker.publish(topology.JOBS, "nobody", message(1), mandatory=True)
        (grave,) = await graves.take()
        self.assertEqual(grave.key, "nobody")
