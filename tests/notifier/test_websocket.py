"""``msgd.v1`` over real WebSockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from msgd.notifier.limits import FRAME_BYTES
from tests.notifier.socket import Client
from tests.notifier.world import World, WorldCase, token


class SocketCase(WorldCase):
    """A test with clients."""

    async def client(self, world: World, **how: Any) -> Client:
        client = await Client().connect(world, **how)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client


class ConversationTest(SocketCase):
    """Operations and their answers."""

    async def test_welcome(self) -> None:
        """A handshake with a token is welcomed at once."""
        world = await self.world()
        client = await self.client(world)
        welcome = await client.next("welcome")
        self.assertEqual((welcome["sub"], welcome["heartbeat"]), ("ann", 25))

    async def test_live_events(self) -> None:
        """A subscriber is shown what happens from now on, in order, with cursors."""
        world = await self.world()
        client = await self.client(world)
        await world.scribe.record([world.event("room.a", data="before")])
        subscribed = await client.subscribe("room.a")
        self.assertEqual(subscribed["op"], "subscribed")
        await world.scribe.record([world.event("room.a", data=1), world.event("room.b", data=2)])
        await world.scribe.record([world.event("room.a", data=3)])
        first, second = await client.events(2)
        self.assertEqual([(e["data"], e["seq"]) for e in (first, second)], [(1, 2), (3, 3)])
        self.assertNotIn("subscription", first)

    async def test_resume(self) -> None:
        """After a cursor comes what followed it, then what happens."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=n) for n in range(1200)])
        client = await self.client(world)
        await client.subscribe("room.a", "0")
        events = await client.events(1200)
        self.assertEqual([e["data"] for e in events], list(range(1200)))
        again = await self.client(world)
        await again.subscribe("room.a", events[1000]["cursor"])
        await world.scribe.record([world.event("room.a", data="new")])
        self.assertEqual([e["data"] for e in await again.events(200)], [*range(1001, 1200), "new"])

    async def test_publish(self) -> None:
        """What one client publishes another is shown, with the publisher's sub as its source."""
        world = await self.world()
        await world.scribe.listen()
        ann = await self.client(world)
        await ann.subscribe("room.*")
        bob = await self.client(world, who=token("bob", "publish:room.#"))
        answer = await bob.answer("publish", topic="room.a", type="said", data={"text": "hi"}, id="1")
        self.assertEqual((answer["op"], answer["id"]), ("ok", "1"))
        event = await ann.next("event")
        self.assertEqual((event["source"], event["data"], event["subscription"]), ("bob", {"text": "hi"}, "room.*"))

    async def test_job_state_first(self) -> None:
        """On a job's topic its snapshot comes before anything else."""
        world = await self.world()
        job = await world.job()
        client = await self.client(world, who=token("ann", "submit:paint"))
        await client.subscribe(f"job.{job}", "0")
        message = await client.next(lambda _: True)
        self.assertEqual((message["op"], message["job"]["state"]), ("state", "queued"))

    async def test_lost_live_messages(self) -> None:
        """What live messages do not bring is read from the journal as soon as a head tells of it."""
        world = await self.world()
        client = await self.client(world)
        await client.subscribe("room.a")
        world.scribe.lose = lambda exchange, key: key != "head"
        await world.scribe.record([world.event("room.a", data=1)])
        world.scribe.lose = lambda exchange, key: True
        await world.scribe.record([world.event("room.a", data=2)])
        world.scribe.lose = lambda exchange, key: False
        await world.scribe.idle()
        self.assertEqual([e["data"] for e in await client.events(2)], [1, 2])


class RefusalTest(SocketCase):
    """What is refused, and how."""

    async def test_oversized(self) -> None:
        """A message over the limit ends the connection with 1009."""
        world = await self.world()
        client = await self.client(world)
        client.raw(b'"' + b"x" * FRAME_BYTES + b'"')
        code, _ = await client.ended
        self.assertEqual(code, 1009)
