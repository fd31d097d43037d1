"""Long-polls: one answer, as soon as there is something to say."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from msgd.notifier import operations as ops
from tests.notifier.raw import connect
from tests.notifier.world import TTL_S, World, WorldCase, token

SEVERAL = "/api/events?topics=room.a,user.*"


def begun(coroutine: Any) -> Deferred[Any]:
    """A request under way."""
    return Deferred.fromCoroutine(coroutine)


async def waiting(world: World, count: int = 1) -> None:
    """Returns when so many long-polls wait for events, and not for the journal."""
    while len(world.doors()) < count or not all(door.waits for door in world.doors()):
        await world.scribe.idle()


class LongPollTest(WorldCase):
    """What a client that can only ask is told."""

    async def test_several(self) -> None:
        """A poll of several topics and patterns is answered by the first event of any; the cursor goes on from there,
        so that a loop sees each event once, in order."""
        world = await self.world()
        first = begun(world.call("GET", SEVERAL + "&wait=20"))
        await waiting(world)
        await world.scribe.record([world.event("room.b", data="no"), world.event("user.bob", data=1)])
        status, page, _ = await first
        self.assertEqual((status, [one["data"] for one in page["events"]], page["more"]), (200, [1], False))
        await world.scribe.record([world.event("room.a", data=2), world.event("room.a", data=3)])
        seen: list[Any] = []
        while len(seen) < 2:
            _, page, _ = await world.call("GET", f"{SEVERAL}&wait=20&limit=1&since={page['cursor']}")
            seen += [one["data"] for one in page["events"]]
        self.assertEqual(seen, [2, 3])

    async def test_nothing_came(self) -> None:
        """An answer without events has a cursor that has moved past what was none of the poll's, and misses nothing."""
        world = await self.world()
        _, page, _ = await world.call("GET", SEVERAL)
        poll = begun(world.call("GET", f"{SEVERAL}&wait=1&since={page['cursor']}"))
        await waiting(world)
        (other,) = await world.scribe.record([world.event("room.b")])
        _, empty, _ = await poll
        self.assertEqual((empty["events"], empty["more"]), ([], False))
        self.assertEqual(empty["cursor"].rpartition("-")[2], str(other.pos))
        await world.scribe.record([world.event("room.a", data="later")])
        _, page, _ = await world.call("GET", f"{SEVERAL}&wait=1&since={empty['cursor']}")
        self.assertEqual([one["data"] for one in page["events"]], ["later"])

    async def test_gap(self) -> None:
        """What is lost is said at once, as a list and, the first, by itself, with what follows it; the cursor goes on
        behind that, also where nothing follows."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=1)])
        _, page, _ = await world.call("GET", SEVERAL + "&wait=20&since=other-7")
        self.assertEqual((page["gap"], page["gap"]["reason"]), (page["gaps"][0], "epoch"))
        self.assertEqual([one["data"] for one in page["events"]], [1])
        before = page["cursor"]
        await world.scribe.record([world.event("room.a", data=2), world.event("user.bob", data=3)])
        await world.call("DELETE", "/api/topics/room.a")
        await world.call("DELETE", "/api/topics/user.bob")
        _, page, _ = await world.call("GET", f"{SEVERAL}&wait=20&since={before}")
        self.assertEqual(({gap["reason"] for gap in page["gaps"]}, page["events"]), ({"erased"}, []))
        await world.scribe.record([world.event("room.a", data=4)])
        _, page, _ = await world.call("GET", f"{SEVERAL}&wait=20&since={page['cursor']}")
        self.assertEqual(([one["data"] for one in page["events"]], "gap" in page), ([4], False))

    async def test_herd(self) -> None:
        """A herd that waits for one event, and comes back for the next, costs the database nothing when it comes."""
        world = await self.world()
        _, page, _ = await world.call("GET", "/api/topics/room.a/events")
        reads: list[str] = []
        journal: Any = world.journal
        for name in ("read", "read_back", "resume"):
            self.patch(journal, name, _counted(getattr(journal, name), name, reads))
        cursor = page["cursor"]
        for number in range(3):
            path = f"/api/topics/room.a/events?wait=20&since={cursor}"
            polls = [begun(world.call("GET", path)) for _ in range(50)]
            await waiting(world, 50)
            reads.clear()
            await world.scribe.record([world.event("room.a", data=number)])
            answers = await gatherResults(polls)
            self.assertEqual([page["events"][0]["data"] for _, page, _ in answers], [number] * 50)
            self.assertEqual(reads, [])
            (cursor,) = {page["cursor"] for _, page, _ in answers}

    async def test_token_ends(self) -> None:
        """A poll does not wait beyond its token's end, nor when its owner is shown the door."""
        world = await self.world()
        path = "/api/topics/room.a/events?wait=20"
        status, page, _ = await world.call("GET", path, who=token(ttl_s=TTL_S))
        self.assertEqual((status, page["events"]), (200, []))
        poll = begun(world.call("GET", path, who=token("ann")))
        await waiting(world)
        (door,) = world.notifier.doors.of("ann")
        door.close(ops.BAD_TOKEN, "the token was revoked")
        status, problem, _ = await poll
        self.assertEqual((status, problem["detail"]), (401, "the token was revoked"))
        self.assertEqual(world.doors(), [])

    async def test_drain(self) -> None:
        """A server that stops answers at once with what there is, and ends the connection, so that the next request
        goes to another; one that still comes is answered without a wait."""
        world = await self.world()
        raw = await connect(world)
        self.addCleanup(raw.transport.abortConnection)
        kept = await connect(world)
        self.addCleanup(kept.transport.abortConnection)
        raw.send("GET /api/topics/room.a/events?wait=20", [f"Authorization: Bearer {token()}"])
        await waiting(world)
        stopped = begun(world.notifier.stop())
        await raw.ended
        self.assertIn(b"HTTP/1.1 200 OK", raw.data)
        self.assertIn(b"Connection: close", raw.data)
        kept.send("GET /api/topics/room.a/events?wait=20", [f"Authorization: Bearer {token()}"])
        await kept.ended
        self.assertIn(b'"events":[]', kept.data)
        await stopped

    async def test_client_goes_away(self) -> None:
        """A client that is gone leaves nothing behind."""
        world = await self.world()
        raw = await connect(world)
        raw.send("GET /api/topics/room.a/events?wait=20", [f"Authorization: Bearer {token()}"])
        await waiting(world)
        raw.transport.abortConnection()
        while world.doors():
            await world.scribe.idle()


def _counted(call: Any, name: str, calls: list[str]) -> Any:
    def counted(*args: Any, **kw: Any) -> Any:
        calls.append(name)
        return call(*args, **kw)

    return counted
