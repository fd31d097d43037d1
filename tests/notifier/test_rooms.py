"""Rooms over HTTP: made, listed, changed, joined, left, deleted; and what history tells of that."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from msgd.notifier import keystrokes
from msgd.notifier.rooms.commands import RECORDED_S
from tests.notifier.test_websocket import SocketCase
from tests.notifier.world import World, pause, reactor, token

ROOMS = ("subscribe:room.#", "publish:room.#")


def who(sub: str, *can: str) -> str:
    return token(sub, *(can or ROOMS))


class RoomsCase(SocketCase):
    """A test with rooms."""

    async def rooms_world(self) -> World:
        world = await self.world()
        await world.scribe.listen()
        return world

    async def make(self, world: World, name: str, sub: str = "ann", **more: Any) -> dict[str, Any]:
        status, room, _ = await world.call("POST", "/api/rooms", {"name": name, **more}, who=who(sub))
        self.assertEqual(status, 201, room)
        # Told by now, too: nothing is on its way when the test ends.
        await world.call("GET", f"/api/events?topics=room.{name}.%23&since=0&wait=20")
        return dict(room)

    async def told(self, world: World, name: str, count: int) -> list[tuple[str, str, Any]]:
        """The first events of a room's history, once there are so many: type, source, data."""
        client = await self.client(world)
        await client.subscribe(f"room.{name}", "0")
        return [(event["type"], event["source"], event["data"]) for event in await client.events(count)]


class RoomsTest(RoomsCase):
    """Public rooms."""

    async def test_create(self) -> None:
        """A room has an owner, who is its first member, and a topic; there is one of a name."""
        world = await self.rooms_world()
        room = await self.make(world, "kitchen", title="The kitchen", members=["bob"])
        created = room.pop("created")
        self.assertRegex(created, r"^20\d\d-.*Z$")
        self.assertEqual(
            room,
            {
                "name": "kitchen",
                "topic": "room.kitchen",
                "title": "The kitchen",
                "description": "",
                "private": False,
                "owner": "ann",
                "members": ["ann", "bob"],
            },
        )
        status, problem, _ = await world.call("POST", "/api/rooms", {"name": "kitchen"}, who=who("bob"))
        self.assertEqual((status, problem["code"]), (409, "conflict"))
        status, shown, _ = await world.call("GET", "/api/rooms/kitchen", who=who("cyd"))
        self.assertEqual((status, shown), (200, {**room, "created": created, "member": False, "present": 0}))
        ((type_, source, data),) = await self.told(world, "kitchen", 1)
        self.assertEqual((type_, source, data["members"]), ("room.created", "ann", ["ann", "bob"]))

    async def test_refusals(self) -> None:
        """What cannot be a room, or is not the caller's to do, is refused with its reason."""
        world = await self.rooms_world()
        await self.make(world, "kitchen")
        cases: list[tuple[str, str, Any, str, int]] = [
            ("POST", "/api/rooms", {"name": "a.b"}, "bob", 400),
            ("POST", "/api/rooms", {"name": ""}, "bob", 400),
            ("POST", "/api/rooms", {"name": "x" * 101}, "bob", 400),
            ("POST", "/api/rooms", {"name": "x", "title": "x" * 201}, "bob", 400),
            ("POST", "/api/rooms", {"name": "x", "title": "\0"}, "bob", 400),
            ("POST", "/api/rooms", {"name": "x", "members": [""]}, "bob", 400),
            ("POST", "/api/rooms", {"name": "x", "members": ["m"] * 1001}, "bob", 400),
            ("PUT", "/api/rooms/kitchen", {"title": "mine"}, "bob", 403),
            ("PUT", "/api/rooms/none", {"title": "mine"}, "bob", 404),
            ("DELETE", "/api/rooms/kitchen", None, "bob", 403),
            ("DELETE", "/api/rooms/kitchen?keep=all", None, "ann", 400),
            ("PUT", "/api/rooms/kitchen/members/cyd", None, "bob", 403),
            ("DELETE", "/api/rooms/kitchen/members/ann", None, "ann", 409),
            ("GET", "/api/rooms/none", None, "ann", 404),
            ("GET", "/api/rooms/none/members", None, "ann", 404),
        ]
        for method, path, body, sub, expected in cases:
            status, answer, _ = await world.call(method, path, body, who=who(sub))
            self.assertEqual(status, expected, (method, path, body, answer))
        reader = who("bob", "subscribe:room.#")
        self.assertEqual((await world.call("POST", "/api/rooms", {"name": "x"}, who=reader))[0], 403)
        stranger = who("bob", "subscribe:app.#")
        self.assertEqual((await world.call("GET", "/api/rooms/kitchen", who=stranger))[0], 404)
        self.assertEqual((await world.call("PUT", "/api/rooms/kitchen/members/bob", who=stranger))[0], 404)

    async def test_list(self) -> None:
        """A page at a time, by name, and only what the caller may read."""
        world = await self.rooms_world()
        for name in ("c", "a", "b"):
            await self.make(world, name)
        await self.make(world, "secret", private=True, members=["cyd"])
        names = []
        next_: str | None = ""
        while next_ is not None:
            status, page, _ = await world.call("GET", f"/api/rooms?limit=2&after={next_}", who=who("bob"))
            self.assertEqual(status, 200)
            names += [room["name"] for room in page["rooms"]]
            next_ = page["next"]
        self.assertEqual(names, ["a", "b", "c"])
        for sub, can, expected in (
            ("cyd", ROOMS, ["a", "b", "c", "secret"]),
            ("root", ("admin:#",), ["a", "b", "c", "secret"]),
            ("eve", ("subscribe:room.b",), ["b"]),
            ("eve", ("subscribe:room.secret",), []),
        ):
            _, page, _ = await world.call("GET", "/api/rooms", who=who(sub, *can))
            self.assertEqual([room["name"] for room in page["rooms"]], expected, (sub, can))
        _, page, _ = await world.call("GET", "/api/rooms", who=who("ann"))
        self.assertEqual([room["member"] for room in page["rooms"]], [True] * 4)

    async def test_change(self) -> None:
        """The owner says what the room is like; the same again changes nothing, and history tells of each change."""
        world = await self.rooms_world()
        await self.make(world, "kitchen", members=["bob"])
        body = {"title": "New", "members": ["cyd"]}
        for _ in range(2):
            status, room, _ = await world.call("PUT", "/api/rooms/kitchen", body, who=who("ann"))
            self.assertEqual((status, room["title"], room["members"]), (200, "New", ["ann", "cyd"]))
        await world.call("PUT", "/api/rooms/kitchen", {"description": "Last"}, who=token("root"))
        events = await self.told(world, "kitchen", 5)
        self.assertEqual(
            [(type_, source) for type_, source, _ in events],
            [
                ("room.created", "ann"),
                ("room.changed", "ann"),
                ("room.left", "ann"),
                ("room.joined", "ann"),
                ("room.changed", "root"),
            ],
        )
        self.assertEqual([data.get("members") for _, _, data in events[2:4]], [["bob"], ["cyd"]])
        self.assertEqual(events[4][2], {"title": "New", "description": "Last", "private": False})

    async def test_members(self) -> None:
        """One joins and leaves by oneself, twice without harm; members come in pages."""
        world = await self.rooms_world()
        await self.make(world, "kitchen")
        path = "/api/rooms/kitchen/members"
        for method in ("PUT", "PUT", "DELETE", "DELETE", "PUT"):
            self.assertEqual((await world.call(method, f"{path}/bob", who=who("bob")))[0], 204)
        self.assertEqual((await world.call("PUT", f"{path}/a%20b", who=who("ann")))[0], 204)
        events = await self.told(world, "kitchen", 5)
        self.assertEqual([data.get("members") for _, _, data in events[1:]], [["bob"], ["bob"], ["bob"], ["a b"]])
        subs = []
        next_: str | None = ""
        while next_ is not None:
            _, page, _ = await world.call("GET", f"{path}?limit=1&after={next_.replace(' ', '%20')}", who=who("cyd"))
            subs += [member["sub"] for member in page["members"]]
            next_ = page["next"]
        self.assertEqual(subs, ["a b", "ann", "bob"])

    async def test_delete(self) -> None:
        """A deleted room is gone with its history, also what was on its way there, or without; its name is free again.
        Whoever reads it is told."""
        world = await self.rooms_world()
        for keep, expected in (("", []), ("?keep=history", ["room.created", "said", "room.deleted"])):
            name = f"kitchen{len(keep)}"
            await self.make(world, name)
            await world.scribe.record([world.event(f"room.{name}")])
            reader = await self.client(world)
            await reader.subscribe(f"room.{name}")
            self.assertEqual((await world.call("DELETE", f"/api/rooms/{name}{keep}", who=who("ann")))[0], 204)
            self.assertEqual((await reader.next("event"))["type"], "room.deleted")
            await self.told(world, name, len(expected))
            _, page, _ = await world.call("GET", f"/api/topics/room.{name}/events?since=0")
            self.assertEqual([event["type"] for event in page["events"]], expected)
            self.assertEqual((await world.call("GET", f"/api/rooms/{name}", who=who("ann")))[0], 404)
            self.assertEqual((await world.call("DELETE", f"/api/rooms/{name}", who=who("ann")))[0], 404)
            await self.make(world, name, "bob")

    async def test_delete_at_once(self) -> None:
        """Of several who delete a room at the same moment none waits for an event that another has erased."""
        world = await self.rooms_world()
        await self.make(world, "kitchen")
        began = reactor.seconds()
        deleting = Deferred.fromCoroutine(world.call("DELETE", "/api/rooms/kitchen", who=who("ann")))
        while not deleting.called:
            await world.journal.erase("room.kitchen")  # as the others do, on whichever notifier
        self.assertEqual((await deleting)[0], 204)
        self.assertLess(reactor.seconds() - began, RECORDED_S)

    async def test_delete_while_others_talk(self) -> None:
        """Of a room that is deleted nothing stays that was said before its end, although others talk on."""
        world = await self.rooms_world()
        await self.make(world, "kitchen")
        deleting = Deferred.fromCoroutine(world.call("DELETE", "/api/rooms/kitchen", who=who("ann")))
        while not deleting.called:
            await world.scribe.record([world.event("room.kitchen")])
            await pause(0.01)
        self.assertEqual((await deleting)[0], 204)
        _, page, _ = await world.call("GET", "/api/topics/room.kitchen/events?since=0")
        self.assertLessEqual({event["type"] for event in page["events"]}, {"said"})

    async def test_nobody_else_tells_of_rooms(self) -> None:
        """What looks like a room's own event is refused from outside."""
        world = await self.rooms_world()
        event = {"topic": "room.kitchen", "type": "room.deleted"}
        status, problem, _ = await world.call("POST", "/api/events", event, who=who("bob"))
        self.assertEqual((status, problem["where"]), (400, "type"))
        self.assertEqual((await world.call("POST", "/api/events", {**event, "topic": "app.x"}))[0], 202)

    async def test_typing(self) -> None:
        """Who types is shown to whoever reads, not again within a while, and kept nowhere."""
        self.patch(keystrokes, "PACE_S", 3600.0)  # longer than the slowest machine takes for the three below
        world = await self.rooms_world()
        ann = await self.client(world, who=who("ann"))
        await ann.subscribe("room.kitchen")
        bob = await self.client(world, who=who("bob"))
        for _ in range(3):
            self.assertEqual((await bob.answer("typing", topic="room.kitchen"))["op"], "ok")
        status, _, _ = await world.call("POST", "/api/topics/room.kitchen/typing", who=who("cyd"))
        self.assertEqual(status, 202)
        await bob.answer("publish", topic="room.kitchen", type="said", data=1)
        shown = [(event["type"], event["source"], event["seq"]) for event in await ann.events(3)]
        self.assertEqual(shown, [("typing", "bob", None), ("typing", "cyd", None), ("said", "bob", 1)])
        refused = await bob.answer("typing", topic="app.x")
        self.assertEqual(refused["code"], "forbidden")
        _, page, _ = await world.call("GET", "/api/topics/room.kitchen/events")
        self.assertEqual([event["type"] for event in page["events"]], ["said"])
