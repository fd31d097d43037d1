"""The topology, by the version of the broker and on one that has it otherwise."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.broker import topology
from msgd.broker.amqp import AmqpBroker
from msgd.broker.amqp.declare import TooOld, check_version, queue_arguments, version_of
from msgd.messages.envelope import Message
from tests.contract.broker_base import Inbox, ack
from tests.servers import rabbitmq

NEW = topology.job_queues("crawl").new
JOB_EVENTS = next(queue for queue in topology.QUEUES if queue.name == topology.JOB_EVENTS_QUEUE)


class ArgumentsTest(SynchronousTestCase):
    """:func:`queue_arguments` and the versions."""

    def test_versions(self) -> None:
        """Versions are read from what the server says of itself; a RabbitMQ that is too old is refused."""
        self.assertEqual(version_of({"version": "3.10.8"}), (3, 10))
        self.assertEqual(version_of({"version": "4.1.0-rc.1"}), (4, 1))
        self.assertEqual(version_of({}), (0, 0))
        check_version({"product": "RabbitMQ", "version": "3.10.0"})
        check_version({"product": "Another", "version": "1.0"})
        self.assertRaises(TooOld, check_version, {"product": "RabbitMQ", "version": "3.9.29"})

    def test_job_queue(self) -> None:
        """A job queue is limited and dead-letters at least once, on every version."""
        for version in ((3, 10), (3, 13), (4, 0), (4, 1)):
            self.assertEqual(
                queue_arguments(NEW, version),
                {
                    "x-queue-type": "quorum",
                    "x-delivery-limit": topology.DELIVERY_LIMIT,
                    "x-dead-letter-exchange": topology.DEAD,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                },
            )

    def test_event_queue(self) -> None:
        """An event queue has one consumer at a time and no delivery limit, which 4.0 and later must be told."""
        old = {"x-queue-type": "quorum", "x-single-active-consumer": True}
        self.assertEqual(queue_arguments(JOB_EVENTS, (3, 13)), old)
        self.assertEqual(queue_arguments(JOB_EVENTS, (4, 0)), {**old, "x-delivery-limit": -1})


class DeclareTest(TestCase):
    """On the shared node."""

    timeout = 300

    def setUp(self) -> None:
        self.vhost = rabbitmq.fresh_vhost(self)

    async def broker(self) -> AmqpBroker:
        broker = AmqpBroker(reactor, [rabbitmq.node().url(self.vhost)], name="tests", jitter=lambda: 0.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        await broker.start()
        return broker

    def info(self, queue: str, item: str) -> str:
        """What the node says of a queue."""
        return rabbitmq.node().order(
            f'rabbit_amqqueue:with(rabbit_misc:r(<<"{self.vhost}">>, queue, <<"{queue}">>), '
            f"fun(Q) -> rabbit_amqqueue:info(Q, [{item}]) end)"
        )

    async def test_at_least_once(self) -> None:
        """RabbitMQ dead-letters a job queue at least once, and not silently at most once."""
        broker = await self.broker()
        await broker.declare_type("crawl")
        settings = rabbitmq.node().order(
            f'rabbit_amqqueue:with(rabbit_misc:r(<<"{self.vhost}">>, queue, <<"{NEW.name}">>), '
            "fun(Q) -> ra:local_query(amqqueue:get_pid(Q), fun(State) -> element(2, State) end) end)"
        )
        self.assertIn("at_least_once", settings)

    async def test_redeclared_otherwise(self) -> None:
        """Queues and exchanges that stand under other arguments are used as they are; the rest is declared."""
        node = rabbitmq.node()
        node.order(
            f'rabbit_amqqueue:declare(rabbit_misc:r(<<"{self.vhost}">>, queue, <<"{topology.TALK_QUEUE}">>), '
            'true, false, [], none, <<"tests">>)'
        )
        node.order(
            f'rabbit_exchange:declare(rabbit_misc:r(<<"{self.vhost}">>, exchange, <<"{topology.CONTROL}">>), '
            'topic, true, false, false, [{<<"alternate-exchange">>, longstr, <<"amq.fanout">>}], <<"tests">>)'
        )
        broker = await self.broker()
        inbox = Inbox(ack)
        await broker.consume(topology.TALK_QUEUE, inbox, prefetch=1)
        await broker.publish(topology.EVENTS, "room.lobby", Message(body=b"1"))
        (delivery,) = await inbox.take()
        self.assertEqual(delivery.key, "room.lobby")
        self.assertIn("classic", self.info(topology.TALK_QUEUE, "type"))
        self.assertIn("quorum", self.info(topology.JOB_EVENTS_QUEUE, "type"))

    async def test_delivery_limit(self) -> None:
        """A job message that was given back too often lands in msgd.dead with its x-death, which is read."""
        broker = await self.broker()
        await broker.declare_type("crawl")
        graves = Inbox(ack)
        await broker.consume(topology.DEAD_QUEUE, graves, prefetch=1)
        await broker.consume(NEW.name, lambda delivery: delivery.requeue(), prefetch=1)
        await broker.publish(topology.JOBS, "crawl", Message(body=b"poison"))
        (grave,) = await graves.take()
        self.assertEqual(grave.message.body, b"poison")
        deaths: Any = grave.message.headers["x-death"]
        self.assertEqual([(each["reason"], each["queue"]) for each in deaths], [("delivery_limit", NEW.name)])
