"""Brokers and consumers that begin and end at any moment."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from msgd.broker import topology
from msgd.broker.interface import Delivery
from msgd.errors import BrokerUnavailable
from tests.broker.amqp.nodes import QUEUE, NodeCase, nothing
from tests.contract.broker_base import Inbox, message
from tests.servers import rabbitmq


class RaceTest(NodeCase):
    """Starting and stopping, at any moment."""

    async def test_stop_at_any_moment(self) -> None:
        """A broker stopped after any number of turns ends cleanly, with all that was asked of it."""
        url = rabbitmq.node().url(rabbitmq.fresh_vhost(self))
        for turns in range(0, 60, 2):
            broker, _ = self.make(url)
            inbox = Inbox()
            asked: list[Deferred[Any]] = [
                Deferred.fromCoroutine(broker.start()),
                Deferred.fromCoroutine(broker.declare_type("crawl")),
                Deferred.fromCoroutine(broker.consume(topology.TALK_QUEUE, inbox, prefetch=1)),
                Deferred.fromCoroutine(broker.consume(topology.JOB_EVENTS_QUEUE, inbox, prefetch=1, ordered=True)),
                Deferred.fromCoroutine(broker.reply_queue(inbox, lost=nothing)),
            ]
            for _ in range(turns):
                await deferLater(reactor, 0)
            await defer.gatherResults([Deferred.fromCoroutine(broker.stop()) for _ in range(2)])
            for each in asked:
                try:
                    await each
                except BrokerUnavailable:
                    pass
            self.assertFalse(broker.accepting)

    async def test_consumers_come_and_go(self) -> None:
        """Consumers cancelled while they come to stand, and stopped, keep no message and no channel."""
        broker, teller = await self.opened(rabbitmq.node().url(rabbitmq.fresh_vhost(self)))
        dice = random.Random(7)
        acked_share = 0.7
        done: set[int] = set()
        in_hand: list[Delivery] = []

        def settle(delivery: Delivery) -> None:
            if dice.random() < acked_share:
                done.add(int(delivery.message.body))
                delivery.ack()
            else:
                delivery.requeue()

        for round_ in range(100):
            for number in range(3):
                await broker.publish(topology.JOBS, "crawl", message(round_ * 3 + number))
            callback = settle if dice.random() < 0.5 else in_hand.append
            consuming = Deferred.fromCoroutine(broker.consume(QUEUE, callback, prefetch=3))
            for _ in range(dice.randrange(12)):
                await deferLater(reactor, 0)
            if consuming.called:
                await (await consuming).stop()
            else:
                consuming.cancel()
                with self.assertRaises(CancelledError):
                    await consuming
            while in_hand:
                delivery = in_hand.pop()
                if delivery.current:
                    settle(delivery)
        acked_share = 1.0
        await broker.consume(QUEUE, settle, prefetch=9)
        while len(done) < 300:
            await deferLater(reactor, 0.01)
        assert broker._consuming.protocol is not None
        while len(broker._consuming.protocol.channels) > 2:  # the connection's own, and that of the last consumer
            await deferLater(reactor, 0.01)
        self.assertEqual(teller.told, ["connected"])
