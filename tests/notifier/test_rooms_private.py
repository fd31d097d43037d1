"""Private rooms: the grant and membership, by every door; and how soon a door is closed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from msgd.broker.embedded import EmbeddedBroker
from msgd.database import Database
from msgd.errors import Forbidden, Unavailable
from msgd.notifier.rooms.directory import LOOK_S, UNSURE_LOOKS, RoomDirectory
from tests.notifier.eventsource import listen
from tests.notifier.test_rooms import RoomsCase, who
from tests.notifier.world import World, pause, reactor, token


class PrivateRoomTest(RoomsCase):
    """One room whose members are ann, its owner, and bob."""

    async def private(self) -> World:
        world = await self.rooms_world()
        await self.make(world, "secret", private=True, members=["bob"])
        return world

    async def test_every_door(self) -> None:
        """Who has the grant alone can neither read, nor publish, nor see who is there; members and admins can."""
        world = await self.private()
        event = {"topic": "room.secret", "type": "said"}
        calls: list[tuple[str, str, Any]] = [
            ("GET", "/api/topics/room.secret/events", None),
            ("GET", "/api/topics/room.secret/events?wait=1&since=0", None),
            ("GET", "/api/topics/room.secret.below/events", None),
            ("GET", "/api/events?topics=room.secret,room.other", None),
            ("GET", "/api/topics/room.secret/presence", None),
            ("POST", "/api/topics/room.secret/typing", None),
            ("POST", "/api/events", event),
        ]
        for token_, allowed in ((who("eve"), False), (who("bob"), True), (token("root"), True)):
            for method, path, body in calls:
                status, answer, _ = await world.call(method, path, body, who=token_)
                self.assertEqual(status in (200, 202), allowed, (path, answer))
                if not allowed:
                    self.assertEqual(answer["code"], "forbidden", path)
            client = await self.client(world, who=token_)
            for op in ("subscribe", "presence", "typing"):
                answer = await client.answer(op, topic="room.secret")
                self.assertEqual(answer["op"] != "error", allowed, (op, answer))
            answer = await client.answer("publish", topic="room.secret", type="said")
            self.assertEqual(answer["op"] == "ok", allowed, answer)
            self.assertEqual((await client.answer("subscribe", topic="room.secret.#"))["op"] == "subscribed", allowed)
        for path in ("/api/rooms/secret", "/api/rooms/secret/members"):
            self.assertEqual((await world.call("GET", path, who=who("eve")))[0], 404)
            self.assertEqual((await world.call("GET", path, who=who("bob")))[0], 200)
        for method, path, body in (
            ("PUT", "/api/rooms/secret", {"private": False}),
            ("PUT", "/api/rooms/secret/members/eve", None),
            ("DELETE", "/api/rooms/secret/members/bob", None),
            ("DELETE", "/api/rooms/secret", None),
        ):
            self.assertEqual((await world.call(method, path, body, who=who("eve")))[0], 404, path)
        ungranted = who("bob", "subscribe:app.#")
        self.assertEqual((await world.call("GET", "/api/topics/room.secret/events", who=ungranted))[0], 403)

    async def test_patterns(self) -> None:
        """Who reads room.* is shown what it may see, live and from history."""
        world = await self.private()
        eve = await self.client(world, who=who("eve"))
        bob = await self.client(world, who=who("bob"))
        for client in (eve, bob):
            await client.subscribe("room.*")
        await world.scribe.record([world.event("room.secret", data=1), world.event("room.open", data=2)])
        late = await self.client(world, who=who("eve"))
        await late.subscribe("room.*", "0")
        self.assertEqual([event["data"] for event in await bob.events(2)], [1, 2])
        self.assertEqual((await eve.next("event"))["data"], 2)
        self.assertEqual((await late.next("event"))["data"], 2)
        for token_, expected in ((who("eve"), [2]), (who("bob"), [1, 2])):
            for query in ("", "&since=0", "&since=0&wait=1"):
                _, page, _ = await world.call("GET", f"/api/events?topics=room.*{query}", who=token_)
                shown = [event["data"] for event in page["events"] if event["type"] == "said"]
                self.assertEqual(shown, expected, query)

    async def test_put_out(self) -> None:
        """The subscriptions of who is put out, or leaves, end at once; those of others go on."""
        world = await self.private()
        ann, bob = await self.client(world, who=who("ann")), await self.client(world, who=who("bob"))
        both = await self.client(world, who=who("bob"))
        for client in (ann, bob, both):
            await client.subscribe("room.secret")
        await both.subscribe("room.*")
        await bob.answer("presence", topic="room.secret")
        self.assertEqual((await world.call("DELETE", "/api/rooms/secret/members/bob", who=who("ann")))[0], 204)
        for client in (bob, both):
            error = await client.next("error")
            self.assertEqual((error["code"], error["topic"]), ("forbidden", "room.secret"))
        self.assertEqual((await ann.next("event"))["type"], "room.left")
        await world.scribe.record([world.event("room.secret", data=1), world.event("room.open", data=2)])
        self.assertEqual((await ann.next("event"))["data"], 1)
        self.assertEqual((await both.next("event"))["data"], 2)
        self.assertEqual((await bob.answer("unsubscribe", topic="room.secret"))["code"], "invalid")
        self.assertEqual((await world.call("PUT", "/api/rooms/secret/members/bob", who=who("ann")))[0], 204)
        self.assertEqual((await bob.subscribe("room.secret"))["op"], "subscribed")

    async def test_put_out_of_other_doors(self) -> None:
        """An event stream and a long-poll of who is put out end at once, and say why."""
        world = await self.private()
        stream = await listen(world.port, "/api/events?topics=room.secret,room.open", who=who("bob"))
        await stream.next("subscribed")
        poll = Deferred.fromCoroutine(world.call("GET", "/api/topics/room.secret/events?wait=20", who=who("bob")))
        while world.notifier._presence.count("room.secret") < 1 or len(world.notifier.doors) < 2:
            await pause(0.01)
        self.assertEqual((await world.call("DELETE", "/api/rooms/secret/members/bob", who=who("ann")))[0], 204)
        error, _ = await stream.next("error")
        self.assertEqual((error["code"], error["topic"]), ("forbidden", "room.secret"))
        await stream.end()
        status, problem, _ = await poll
        self.assertEqual((status, problem["code"]), (403, "forbidden"))
        await self.told(world, "secret", 2)

    async def test_a_door_that_closes(self) -> None:
        """A public room that becomes private sends away who is no member; a deleted one admits by grants again."""
        world = await self.rooms_world()
        await self.make(world, "kitchen")
        eve = await self.client(world, who=who("eve"))
        await eve.subscribe("room.kitchen")
        await world.call("PUT", "/api/rooms/kitchen", {"private": True}, who=who("ann"))
        self.assertEqual((await eve.next("error"))["topic"], "room.kitchen")
        kept = await world.call("DELETE", "/api/rooms/kitchen?keep=history", who=who("ann"))
        self.assertEqual(kept[0], 409)
        self.assertEqual((await world.call("DELETE", "/api/rooms/kitchen", who=who("ann")))[0], 204)
        status, page, _ = await world.call("GET", "/api/topics/room.kitchen/events?since=0", who=who("eve"))
        self.assertEqual((status, page["events"]), (200, []))

    async def test_a_renewed_token(self) -> None:
        """Who read as an admin, and renews without that, needs to be a member."""
        world = await self.private()
        eve = await self.client(world, who=token("eve"))
        await eve.subscribe("room.secret")
        await eve.answer("presence", topic="room.secret")
        self.assertEqual((await eve.answer("token", token=who("eve")))["op"], "ok")
        self.assertEqual((await eve.answer("unsubscribe", topic="room.secret"))["code"], "invalid")


def _stop(stop: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> Deferred[None]:
    return Deferred.fromCoroutine(stop())


class DirectoryTest(RoomsCase):
    """What a notifier knows of private rooms when nobody tells it."""

    async def deaf(self, world: World) -> tuple[RoomDirectory, Database, Clock]:
        """A directory on the same database, whose broker brings nothing; its database connection, not open yet; its
        clock."""
        broker = EmbeddedBroker(world.folder / "another.sqlite3", reactor=reactor)
        database = Database(f"sqlite:///{world.folder}/msgd.sqlite3", reactor=reactor)
        clock = Clock()
        directory = RoomDirectory(database, broker, clock)
        for stop in (broker.stop, database.stop, directory.stop):
            self.addCleanup(_stop, stop)
        await broker.start()
        return directory, database, clock

    async def comes(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await pause(0.005)

    async def test_lost_messages(self) -> None:
        """A change that nobody told of is seen at the next look, and told to whoever listens."""
        world = await self.rooms_world()
        await self.make(world, "secret", private=True, members=["bob"])
        directory, database, clock = await self.deaf(world)
        await database.start()
        await directory.start()
        self.assertTrue(directory.admits("secret", "bob"))
        self.assertFalse(directory.admits("secret", "eve"))
        changed: list[str] = []
        directory.listen(changed.append)
        await world.call("DELETE", "/api/rooms/secret/members/bob", who=who("ann"))
        self.assertTrue(directory.admits("secret", "bob"))
        clock.advance(LOOK_S)
        await self.comes(lambda: not directory.admits("secret", "bob"))
        self.assertEqual(changed, ["secret"])
        await world.call("PUT", "/api/rooms/secret", {"private": False}, who=who("ann"))
        clock.advance(LOOK_S)
        await self.comes(lambda: directory.admits("secret", "eve"))
        self.assertEqual(changed, ["secret"])
        await self.told(world, "secret", 3)

    async def test_unreadable_at_the_start(self) -> None:
        """Until the rooms have been read nobody is admitted to any; then everybody is who may."""
        world = await self.rooms_world()
        await self.make(world, "secret", private=True)
        directory, database, clock = await self.deaf(world)
        await directory.start()
        for room in ("secret", "open"):
            self.assertFalse(directory.admits(room, "ann"))
            self.assertRaises(Unavailable, directory.check, room, "ann")
        await database.start()
        clock.pump([1.0] * 5)
        await self.comes(lambda: directory.admits("open", "eve"))
        self.assertTrue(directory.admits("secret", "ann"))
        self.assertRaises(Forbidden, directory.check, "secret", "eve")

    async def test_a_long_outage(self) -> None:
        """When the database has not been there for long nobody is admitted: who was put out may still be in here."""
        world = await self.rooms_world()
        await self.make(world, "secret", private=True)
        directory, database, clock = await self.deaf(world)
        await database.start()
        await directory.start()
        await database.stop()
        clock.pump([LOOK_S] * (UNSURE_LOOKS - 1))
        self.assertTrue(directory.admits("secret", "ann"))
        clock.advance(LOOK_S)
        self.assertFalse(directory.admits("secret", "ann"))
        self.assertRaises(Unavailable, directory.check, "secret", "ann")
        await database.start()
        clock.advance(LOOK_S)
        await self.comes(lambda: directory.admits("secret", "ann"))
