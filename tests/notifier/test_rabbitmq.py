"""The feed over RabbitMQ: what differs from the embedded broker is that a connection can be cut."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from msgd.broker.amqp import AmqpBroker
from tests.notifier.socket import Client
from tests.notifier.world import WorldCase, pause, reactor
from tests.servers import rabbitmq


class CutTest(WorldCase):
    """Connections to the broker that are lost."""

    timeout = 300

    async def test_events_over_a_cut(self) -> None:
        """What happens while the connection is gone is shown as soon as it is back, and once; what follows is live."""
        node = rabbitmq.node()
        vhost = rabbitmq.fresh_vhost(self)
        world = await self.world(instead=AmqpBroker(reactor, [node.url(vhost)], name="tests", jitter=lambda: 0.0))
        client = await Client().connect(world)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        await client.subscribe("room.a", "0")
        await world.scribe.record([world.event("room.a", data=0)])
        self.assertEqual((await client.next("event"))["data"], 0)
        for round_ in range(3):
            # Its live messages are lost like those that were on their way through a broker that died.
            world.scribe.lose = lambda exchange, key: True
            await world.scribe.record([world.event("room.a", data=f"lost {round_}")])
            world.scribe.lose = lambda exchange, key: False
            await deferToThread(node.cut_connections, vhost)
            self.assertEqual((await client.next("event"))["data"], f"lost {round_}")
            while not world.broker.accepting:
                await pause(0.01)
            await world.scribe.record([world.event("room.a", data=f"live {round_}")])
            self.assertEqual((await client.next("event"))["data"], f"live {round_}")
        seqs = [message["seq"] for message in client.messages if message["op"] == "event"]
        self.assertEqual(seqs, list(range(1, 8)))
        # A subscriber that comes while there is no broker reads history meanwhile.
        await deferToThread(node.cut_connections, vhost)
        late = await Client().connect(world)
        self.addCleanup(lambda: Deferred.fromCoroutine(late.close()))
        await late.subscribe("room.*", "0")
        self.assertEqual([event["seq"] for event in await late.events(7)], seqs)
