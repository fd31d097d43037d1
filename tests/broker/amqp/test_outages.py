"""What goes wrong with a real node, and how the broker mends it."""

from __future__ import annotations

from typing import Any

import pika
from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from msgd.broker import topology
from msgd.errors import BrokerUnavailable, NotFound, Unroutable
from msgd.messages.envelope import Message
from tests.broker.amqp.nodes import QUEUE, NodeCase
from tests.contract.broker_base import Inbox, Watcher, ack, message, numbers
from tests.servers import rabbitmq


class SharedNodeTest(NodeCase):
    """What can be done to one vhost, or undone."""

    def setUp(self) -> None:
        super().setUp()
        self.node = rabbitmq.node()
        self.vhost = rabbitmq.fresh_vhost(self)
        self.url = self.node.url(self.vhost)

    async def test_connections_cut(self) -> None:
        """After a cut all stand again: consumers, reply queues under new names, their bindings; ``lost`` is called."""
        broker, teller = await self.opened(self.url)
        inbox, ordered, live = Inbox(), Inbox(), Inbox()
        lost: Deferred[None] = Deferred()
        await broker.consume(QUEUE, inbox, prefetch=10)
        await broker.consume(topology.TALK_QUEUE, ordered, prefetch=10, ordered=True)
        replies = await broker.reply_queue(live, bindings=[(topology.LIVE, "1")], lost=lambda: lost.callback(None))
        await replies.bind(topology.LIVE, "2")
        await replies.unbind(topology.LIVE, "1")
        name = replies.name
        await broker.publish(topology.JOBS, "crawl", message(1))
        await broker.publish(topology.EVENTS, "room.a", message(2))
        (held,) = await inbox.take()
        (held_in_order,) = await ordered.take()

        down, up = teller.hear("disconnected"), teller.hear("connected")
        self.node.cut_connections(self.vhost)
        await down
        self.assertFalse(broker.accepting)
        self.assertFalse(held.current)
        held.ack()
        held_in_order.ack()
        await up
        await lost
        self.assertTrue(broker.accepting)
        self.assertNotEqual(replies.name, name)
        for one in (inbox, ordered):
            (again,) = await one.take()
            self.assertTrue(again.redelivered)
            again.ack()
        await broker.publish(topology.LIVE, "1", message(3))
        await broker.publish(topology.LIVE, "2", message(4), mandatory=True)
        await broker.publish("", replies.name, message(5), mandatory=True)
        self.assertEqual(numbers(await live.take(2)), [4, 5])
        self.assertIn("CONNECTION_FORCED", self.log_text())

    async def test_connected_without_those_that_went(self) -> None:
        """Consumers that were refused, or stopped while their connection was down, are not waited for."""
        broker, teller = await self.opened(self.url)
        with self.assertRaises(NotFound):
            await broker.consume("no.such.queue", Inbox(), prefetch=1, ordered=True)
        consumer = await broker.consume(topology.TALK_QUEUE, Inbox(), prefetch=1, ordered=True)
        down, up = teller.hear("disconnected"), teller.hear("connected")
        self.node.cut_connections(self.vhost)
        await down
        await consumer.stop()
        await up
        self.assertTrue(broker.accepting)

    async def test_direct_replies_that_end_connections(self) -> None:
        """A direct reply that the broker cannot decode costs nothing but the replies' own connection, and its name is
        given up; honest ones beside it arrive, in order."""
        broker, teller = await self.opened(self.url)
        caller = pika.BlockingConnection(pika.URLParameters(self.url))
        self.addCleanup(caller.close)
        channel = caller.channel()
        arrived: list[int] = []
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *got: arrived.append(int(got[-1])), auto_ack=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        _, properties, _ = channel.basic_get(queue, auto_ack=True)

        honest, garbage = properties.reply_to, "amq.rabbitmq.reply-to.AAAA.AAAA"
        names = [honest, garbage, honest, garbage, honest]
        sent = [broker.publish("", name, message(number)) for number, name in enumerate(names)]
        for name, one in zip(names, sent, strict=True):
            if name == honest:
                await one
            else:
                await self.assertFailure(one, Unroutable)
        await self.assertFailure(broker.publish("", garbage, message(5)), Unroutable)
        await broker.publish("", honest, message(6))
        while 6 not in arrived:
            caller.process_data_events(time_limit=0)
            await deferLater(reactor, 0.01)
        self.assertEqual(list(dict.fromkeys(arrived)), [0, 2, 4, 6])
        self.assertNotIn("disconnected", teller.told)

        waiting = broker.publish("", "amq.rabbitmq.reply-to.BBBB.AAAA", message(7))
        await broker.stop()
        await self.assertFailure(waiting, BrokerUnavailable)

    async def test_publish_during_a_cut(self) -> None:
        """Publishes under way when the connection is cut are confirmed or fail with BrokerUnavailable; none hangs. Who
        is told so finds the broker not ready: it would publish again at once, in vain, for ever."""
        broker, teller = await self.opened(self.url)
        down, up = teller.hear("disconnected"), teller.hear("connected")
        accepting: list[bool] = []  # at each failure

        def failed(failure: Failure) -> None:
            failure.trap(BrokerUnavailable)
            accepting.append(broker.accepting)

        pending: list[Deferred[None]] = []
        cut = deferToThread(self.node.cut_connections, self.vhost)
        while not down.called:  # however long the node takes for it: there are always some under way
            under_way = sum(not one.called for one in pending[-200:])
            for _ in range(200 - under_way):
                sent = broker.publish(topology.JOBS, "crawl", Message(body=bytes(20_000)))
                pending.append(sent.addErrback(failed))
            await deferLater(reactor, 0)
        await defer.gatherResults(pending)
        self.assertGreater(len(accepting), 0)
        self.assertNotIn(True, accepting)
        await broker.ready()
        await cut
        await up
        arrived = (await broker.depths([QUEUE]))[QUEUE]
        self.assertGreaterEqual(arrived, len(pending) - len(accepting))

    async def test_queue_deleted(self) -> None:
        """A consumer whose queue is deleted comes back with the queue, ordered or not."""
        broker, teller = await self.opened(self.url)
        inbox, ordered = Inbox(ack), Inbox(ack)
        await broker.consume(QUEUE, inbox, prefetch=10)
        await broker.consume(topology.TALK_QUEUE, ordered, prefetch=10, ordered=True)
        again = teller.hear("connected")  # the ordered one takes its whole connection anew
        self.node.delete_queue(self.vhost, QUEUE)
        self.node.delete_queue(self.vhost, topology.TALK_QUEUE)
        await again
        while True:  # the queue is there before it is bound
            try:
                await broker.publish(topology.JOBS, "crawl", message(1), mandatory=True)
                break
            except Unroutable:
                await deferLater(reactor, 0.01)
        await broker.publish(topology.EVENTS, "room.a", message(2), mandatory=True)
        self.assertEqual(numbers(await inbox.take()), [1])
        self.assertEqual(numbers(await ordered.take()), [2])

    async def test_channel_closed(self) -> None:
        """A consumer whose channel the broker closes stands again; what it held comes again."""
        broker, _ = await self.opened(self.url)
        inbox = Inbox()
        consumer = await broker.consume(QUEUE, inbox, prefetch=10)
        await broker.publish(topology.JOBS, "crawl", message(1))
        (held,) = await inbox.take()
        assert consumer._subscription is not None
        consumer._subscription._channel.basic_ack(delivery_tag=999)  # 406, unknown delivery tag
        (again,) = await inbox.take()
        self.assertTrue(again.redelivered)
        self.assertFalse(held.current)
        again.ack()
        self.assertIn("unknown delivery tag", self.log_text())

    async def test_exchange_deleted(self) -> None:
        """Publishing to an exchange that was deleted fails, and the next connection declares it again."""
        broker, teller = await self.opened(self.url)
        up = teller.hear("connected")
        self.node.order(
            f'rabbit_exchange:delete(rabbit_misc:r(<<"{self.vhost}">>, exchange, <<"{topology.LIVE}">>), '
            'false, <<"tests">>)'
        )
        with self.assertRaises(BrokerUnavailable):
            await broker.publish(topology.LIVE, "1", message(1))
        self.assertFalse(broker.accepting)
        await up
        await broker.publish(topology.LIVE, "1", message(1))

    async def test_blocked(self) -> None:
        """Under a memory alarm: ``blocked``, not accepting, publishes wait; acks go on; then all are confirmed."""
        broker, teller = await self.opened(self.url)
        inbox = Inbox()
        await broker.consume(QUEUE, inbox, prefetch=10)
        await broker.publish(topology.JOBS, "crawl", message(1))
        (held,) = await inbox.take()
        blocked, unblocked = teller.hear("blocked"), teller.hear("unblocked")
        self.addCleanup(self.node.set_memory_alarm, on=False)
        self.node.set_memory_alarm(on=True)
        waiting = broker.publish(topology.JOBS, "crawl", message(2))
        await blocked
        self.assertFalse(broker.accepting)
        late = Watcher()
        broker.observe(late)
        self.assertEqual(late.told, ["connected", "blocked"])
        held.ack()
        while "1" in self.node.order(self._unacknowledged()):
            await deferLater(reactor, 0.01)
        self.assertFalse(waiting.called)
        self.node.set_memory_alarm(on=False)
        await unblocked
        await waiting
        self.assertTrue(broker.accepting)
        self.assertEqual(numbers(await inbox.take()), [2])

    def _unacknowledged(self) -> str:
        return (
            f'rabbit_amqqueue:with(rabbit_misc:r(<<"{self.vhost}">>, queue, <<"{QUEUE}">>), '
            "fun(Q) -> rabbit_amqqueue:info(Q, [messages_unacknowledged_ram, messages_unacknowledged]) end)"
        )

    async def test_stop_while_blocked(self) -> None:
        """A broker that is blocked can be stopped; what was not confirmed fails."""
        broker, teller = await self.opened(self.url)
        blocked = teller.hear("blocked")
        self.addCleanup(self.node.set_memory_alarm, on=False)
        self.node.set_memory_alarm(on=True)
        waiting = broker.publish(topology.JOBS, "crawl", message(2))
        await blocked
        await broker.stop()
        with self.assertRaises(BrokerUnavailable):
            await waiting

    async def test_dead_during_a_cut(self) -> None:
        """``dead`` never loses a message: it arrives in msgd.dead, or the delivery comes again."""
        broker, teller = await self.opened(self.url)
        inbox = Inbox()
        await broker.consume(QUEUE, inbox, prefetch=10)
        await broker.publish(topology.JOBS, "crawl", message(1))
        (held,) = await inbox.take()
        up = teller.hear("connected")
        self.node.cut_connections(self.vhost)
        with self.assertRaises(BrokerUnavailable):
            await held.dead("too late")
        await up
        (again,) = await inbox.take()
        await again.dead("in time")
        self.assertEqual((await broker.depths([topology.DEAD_QUEUE]))[topology.DEAD_QUEUE], 1)

    async def test_wrong_password(self) -> None:
        """A refused log-in is logged with host, reason and next try, and never with a password; it is tried again."""
        wrong = self.url.replace(self.node.password, "open-sesame")
        broker, _ = self.make(wrong)
        starting = Deferred.fromCoroutine(broker.start())
        while "ACCESS_REFUSED" not in self.log_text():
            await deferLater(reactor, 0.01)
        await broker.stop()
        with self.assertRaises(BrokerUnavailable):
            await starting
        self.assertIn(f"127.0.0.1:{self.node.port}", self.log_text())
        self.assertIn("next try in", self.log_text())
        self.assertNotIn("open-sesame", self.log_text() + repr(self.logged))

    async def test_several_urls(self) -> None:
        """Of several brokers the next is tried when one does not answer."""
        nobody = f"amqp://{rabbitmq.USER}:x@127.0.0.1:1"
        broker, _ = await self.opened(nobody, self.url)
        await broker.publish(topology.JOBS, "crawl", message(1))
        self.assertIn("127.0.0.1:1", self.log_text())
        self.assertIn(str(self.node.port), broker.description)
        self.assertNotIn(self.node.password, broker.description)

    async def test_waiting_for_the_first_connection(self) -> None:
        """What is asked for before the broker is started waits for it, and stands when it is connected."""
        broker, _ = self.make(self.url)
        inbox, ordered, live = Inbox(ack), Inbox(ack), Inbox()
        asked: list[Deferred[Any]] = [
            Deferred.fromCoroutine(broker.declare_type("crawl")),
            Deferred.fromCoroutine(broker.consume(topology.TALK_QUEUE, inbox, prefetch=1)),
            Deferred.fromCoroutine(broker.consume(topology.JOB_EVENTS_QUEUE, ordered, prefetch=1, ordered=True)),
            Deferred.fromCoroutine(
                broker.reply_queue(live, bindings=[(topology.LIVE, "1")], lost=lambda: self.fail("not lost"))
            ),
        ]
        await broker.start()
        await defer.gatherResults(asked)
        for exchange, key in ((topology.EVENTS, "room.a"), (topology.EVENTS, "job.1"), (topology.LIVE, "1")):
            await broker.publish(exchange, key, message(1), mandatory=True)
        for one in (inbox, ordered, live):
            await one.take()

    async def test_asked_for_and_never_connected(self) -> None:
        """What waits for a connection fails with BrokerUnavailable when the broker is stopped first."""
        broker, _ = self.make(self.url)
        asked: list[Deferred[Any]] = [
            Deferred.fromCoroutine(broker.start()),
            Deferred.fromCoroutine(broker.declare_type("crawl")),
            Deferred.fromCoroutine(broker.consume(QUEUE, Inbox(), prefetch=1)),
            Deferred.fromCoroutine(broker.consume(QUEUE, Inbox(), prefetch=1, ordered=True)),
            Deferred.fromCoroutine(broker.reply_queue(Inbox(), lost=lambda: None)),
        ]
        await broker.stop()
        for each in asked:
            with self.assertRaises(BrokerUnavailable):
                await each


class SpareNodeTest(NodeCase):
    """What takes a whole node down."""

    timeout = 180

    def setUp(self) -> None:
        super().setUp()
        self.node = rabbitmq.spare_node()
        self.node.start()
        self.url = self.node.url(rabbitmq.fresh_vhost(self, self.node))

    async def test_killed_and_restarted(self) -> None:
        """``kill -9`` of the node: confirmed messages are there afterwards, consumers go on, marks remain."""
        broker, teller = await self.opened(self.url)
        await broker.set_mark("epoch")
        await defer.gatherResults([broker.publish(topology.JOBS, "crawl", message(n)) for n in range(100)])
        down, up = teller.hear("disconnected"), teller.hear("connected")
        await deferToThread(self.node.kill)
        await down
        with self.assertRaises(BrokerUnavailable):
            await broker.publish(topology.JOBS, "crawl", message(100))
        with self.assertRaises(BrokerUnavailable):
            await broker.has_mark("epoch")
        inbox = Inbox(ack)
        consuming = Deferred.fromCoroutine(broker.consume(QUEUE, inbox, prefetch=50))
        await deferToThread(self.node.start)
        await up
        await consuming
        self.assertEqual(sorted(numbers(await inbox.take(100))), list(range(100)))
        self.assertTrue(await broker.has_mark("epoch"))

    async def test_wiped(self) -> None:
        """A node that lost everything gets the whole topology again, with job types; the mark is missing."""
        broker, teller = await self.opened(self.node.url())  # the one vhost that an empty node has
        await broker.set_mark("life")
        inbox = Inbox(ack)
        await broker.consume(QUEUE, inbox, prefetch=50)
        await deferToThread(self.node.stop)
        up = teller.hear("connected")
        self.node.wipe()
        await deferToThread(self.node.start)
        await up
        self.assertFalse(await broker.has_mark("life"))
        await broker.publish(topology.JOBS, "crawl", message(1), mandatory=True)
        self.assertEqual(numbers(await inbox.take()), [1])

    async def test_frozen(self) -> None:
        """A node that hangs is noticed by its missing heartbeats; a busy one misses none."""
        broker, teller = await self.opened(self.url + "?heartbeat=3")
        down, up = teller.hear("disconnected"), teller.hear("connected")
        self.node.freeze()
        try:
            await down
        finally:
            self.node.thaw()
        await up
        self.assertIn("no heartbeat", self.log_text())
        await broker.publish(topology.JOBS, "crawl", message(1))
