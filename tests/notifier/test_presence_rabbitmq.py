"""Presence over RabbitMQ: its messages are lost with a connection, and made up for."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from msgd.broker.amqp import AmqpBroker
from tests.notifier.test_presence import PresenceCase
from tests.notifier.world import pause, reactor
from tests.servers import rabbitmq


class CutTest(PresenceCase):
    """Connections to the broker that are lost."""

    timeout = 300

    async def test_changes_over_a_cut(self) -> None:
        """Nobody is gone because the connection is; who comes or goes meanwhile is seen as soon as it is back."""
        node = rabbitmq.node()
        vhost = rabbitmq.fresh_vhost(self)
        world = await self.world(instead=AmqpBroker(reactor, [node.url(vhost)], name="tests", jitter=lambda: 0.0))
        broker = AmqpBroker(reactor, [node.url(vhost)], name="others", jitter=lambda: 0.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        await broker.start()
        other = await self.neighbour(world, broker)
        ann, bob = await self.named(world, "ann"), await self.named(other, "bob")
        await ann.subscribe("room.a")
        await ann.answer("presence", topic="room.a")
        await bob.subscribe("room.a")
        await self.members(ann, "ann", "bob")
        heard = len(ann.messages)
        for sub in ("cyd", "dan"):
            await deferToThread(node.cut_connections, vhost)
            newcomer = await self.named(other, sub)
            await newcomer.subscribe("room.a")
            while not (world.broker.accepting and broker.accepting):
                await pause(0.01)
            if sub == "cyd":
                await self.members(ann, "ann", "bob", "cyd")
        await bob.close()
        await self.members(ann, "ann", "cyd", "dan")
        told = [one["members"] for one in ann.messages[heard:] if one["op"] == "presence"]
        self.assertEqual([members for members in told[:-1] if "bob" not in members], [])
