"""The contract of ``msgd.broker.interface``, run on every implementation.

A test class mixes :class:`BrokerContract` into a trial ``TestCase`` and says how to make a broker. Each test has a
store of messages to itself (a vhost, a file); :meth:`BrokerContract.make_broker` opens it, again after an earlier
broker was stopped. Only one broker of a test is open at a time, because the embedded one lives in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet import defer, reactor, task
from twisted.internet.defer import Deferred
from twisted.trial import unittest

from msgd.broker import topology
from msgd.broker.interface import Broker, Consumer, Delivery
from msgd.errors import BrokerUnavailable, NotFound, Unroutable
from msgd.messages.envelope import HeaderValue, Message

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object

JOBS = topology.job_queues("crawl").new.name


class Inbox:
    """A consumer's callback that keeps what it is given until a test takes it."""

    def __init__(self, then: Callable[[Delivery], None] | None = None) -> None:
        """``then`` is called with each delivery after it was kept, for example to acknowledge it at once."""
        self.seen: list[Delivery] = []
        self._then = then
        self._taken = 0
        self._wanted: tuple[int, Deferred[None]] | None = None

    def __call__(self, delivery: Delivery) -> None:
        self.seen.append(delivery)
        if self._then is not None:
            self._then(delivery)
        if self._wanted is not None and len(self.seen) >= self._wanted[0]:
            wanted, self._wanted = self._wanted[1], None
            wanted.callback(None)

    async def take(self, count: int = 1) -> list[Delivery]:
        """The next ``count`` deliveries, waiting for them."""
        end = self._taken + count
        if len(self.seen) < end:
            arrived: Deferred[None] = Deferred()
            self._wanted = (end, arrived)
            await arrived
        start, self._taken = self._taken, end
        return self.seen[start:end]


class Watcher:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connected(self) -> None:
        self.told.append("connected")

    def disconnected(self, reason: str) -> None:
        self.told.append("disconnected")

    def blocked(self, reason: str) -> None:
        self.told.append("blocked")

    def unblocked(self) -> None:
        self.told.append("unblocked")


def message(number: int) -> Message:
    """A small message that tells its number."""
    return Message(body=str(number).encode(), message_id=f"m{number}")


def numbers(deliveries: list[Delivery]) -> list[int]:
    """The numbers of messages made by :func:`message`."""
    return [int(delivery.message.body) for delivery in deliveries]


def ack(delivery: Delivery) -> None:
    delivery.ack()


class BrokerContract(_Base):
    """The suite. Implementations provide :meth:`make_broker`."""

    timeout = 30

    def make_broker(self) -> Broker:
        """A broker, not started, over this test's own store of messages; at most one is running at a time."""
        raise NotImplementedError

    async def opened(self) -> Broker:
        """A started broker, stopped when the test ends."""
        broker = self.make_broker()
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        await broker.start()
        return broker

    async def publish(self, broker: Broker, *range_: int, exchange: str = topology.JOBS, key: str = "crawl") -> None:
        """Publish ``message(n)`` for ``n in range(*range_)``, all in one turn, and await the confirms."""
        await defer.gatherResults([broker.publish(exchange, key, message(n)) for n in range(*range_)])

    async def settled(self, broker: Broker, queue: str, count: int) -> None:
        """Returns when ``queue`` holds ``count`` messages ready; what is on its way back takes a moment."""
        while (await broker.depths([queue])).get(queue) != count:
            await task.deferLater(reactor, 0.005)

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
            outcomes[number][1].trap(Unroutable)  # type: ignore[attr-defined]

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

    async def test_ready_can_be_cancelled(self) -> None:
        """Whoever waits for the connection may give up without harm to the others."""
        broker = self.make_broker()
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        given_up, patient = broker.ready(), broker.ready()
        given_up.cancel()
        self.failureResultOf(given_up, defer.CancelledError)
        await broker.start()
        await patient

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
