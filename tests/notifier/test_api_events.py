"""Events in and out over HTTP: ``/api/events`` and ``/api/topics/…/events``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from msgd.notifier.limits import BATCH_EVENTS
from tests.notifier.world import WorldCase, token


class EventsTest(WorldCase):
    """``/api/events`` and ``/api/topics``."""

    async def test_publish(self) -> None:
        """Events go out in order, under the ids given or made, from the principal; then they are history."""
        world = await self.world()
        await world.scribe.listen()
        bob = token("bob", "publish:room.#", "subscribe:room.#")
        status, one, _ = await world.call(
            "POST", "/api/events", {"topic": "room.a", "type": "said", "data": {"text": "hi"}, "id": "7"}, who=bob
        )
        self.assertEqual((status, one), (202, {"id": "7"}))
        status, some, _ = await world.call(
            "POST", "/api/events", [{"topic": "room.a", "type": "said", "data": n} for n in range(3)], who=bob
        )
        self.assertEqual((status, len(some["ids"])), (202, 3))
        _, page, _ = await world.call("GET", "/api/topics/room.a/events?since=0&wait=10&limit=10", who=bob)
        while len(page["events"]) < 4:
            _, page, _ = await world.call("GET", "/api/topics/room.a/events?since=0&limit=10", who=bob)
        self.assertEqual([event["data"] for event in page["events"]], [{"text": "hi"}, 0, 1, 2])
        self.assertEqual({event["source"] for event in page["events"]}, {"bob"})

    async def test_cloud_events(self) -> None:
        """CloudEvents are taken in structured and batched mode; their source stands for who administers the topic."""
        world = await self.world()
        await world.scribe.listen()
        cloud = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "created", "subject": "app.invoice"}
        kind = {"Content-Type": "application/cloudevents+json"}
        status, answer, _ = await world.call("POST", "/api/events", {**cloud, "data": 1}, headers=kind)
        self.assertEqual((status, answer), (202, {"id": "1"}))
        kind = {"Content-Type": "application/cloudevents-batch+json"}
        bob = token("bob", "publish:app.#")
        status, answer, _ = await world.call("POST", "/api/events", [{**cloud, "id": "2"}], headers=kind, who=bob)
        self.assertEqual((status, answer), (202, {"ids": ["2"]}))
        told: list[dict[str, Any]] = []
        since = "0"
        while len(told) < 2:  # a long-poll is answered as soon as there is something: the rest lies after its cursor
            _, page, _ = await world.call("GET", f"/api/topics/app.invoice/events?since={since}&wait=5")
            told, since = [*told, *page["events"]], page["cursor"]
        self.assertEqual([event["source"] for event in told], ["/shop", "bob"])
        wrong = {**cloud, "specversion": "0.3"}
        status, problem, _ = await world.call(
            "POST", "/api/events", wrong, headers={"Content-Type": "application/cloudevents+json"}
        )
        self.assertEqual((status, problem["where"]), (400, "specversion"))

    async def test_refusals(self) -> None:
        """What may not be published, and how that is said."""
        world = await self.world()
        bob = token("bob", "publish:room.#")
        good = {"topic": "room.a", "type": "said"}
        for body, status, code in (
            ({**good, "topic": "app.a"}, 403, "forbidden"),
            ({**good, "topic": "job.1"}, 403, "forbidden"),
            ({**good, "topic": "room..a"}, 400, "invalid-topic"),
            ({**good, "topic": "room.*"}, 400, "invalid-topic"),
            ({**good, "type": ""}, 400, "invalid"),
            ({**good, "type": "progress"}, 400, "invalid"),
            ({**good, "source": "ann"}, 403, "forbidden"),
            ({**good, "id": "x" * 201}, 400, "invalid"),
            ({**good, "id": "a\0b"}, 400, "invalid"),
            ({**good, "type": "a\0b"}, 400, "invalid"),
            ([good, {**good, "topic": "app.a"}], 403, "forbidden"),
            ([good] * (BATCH_EVENTS + 1), 413, "too-large"),
        ):
            got, problem, _ = await world.call("POST", "/api/events", body, who=bob)
            self.assertEqual((got, problem["code"]), (status, code), str(body)[:80])
        admin = {"topic": "job.1", "type": "said"}
        self.assertEqual((await world.call("POST", "/api/events", admin))[0], 403)
        self.assertEqual((await world.call("POST", "/api/events", {**good, "source": "\0"}))[0], 400)

    async def test_history_both_ways(self) -> None:
        """Forward from a cursor, back from an event, the latest by default."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=n) for n in range(10)])
        path = "/api/topics/room.a/events"
        _, page, _ = await world.call("GET", f"{path}?limit=3")
        self.assertEqual([event["data"] for event in page["events"]], [7, 8, 9])
        _, back, _ = await world.call("GET", f"{path}?limit=3&before={page['events'][0]['cursor']}")
        self.assertEqual([event["data"] for event in back["events"]], [4, 5, 6])
        _, on, _ = await world.call("GET", f"{path}?limit=2&since={back['cursor']}")
        self.assertEqual(([event["data"] for event in on["events"]], on["more"]), ([7, 8], True))
        _, rest, _ = await world.call("GET", f"{path}?since={on['cursor']}")
        self.assertEqual(([event["data"] for event in rest["events"]], rest["more"]), ([9], False))
        _, both, _ = await world.call("GET", "/api/events?topics=room.*,room.a&since=0&limit=1000")
        self.assertEqual([event["seq"] for event in both["events"]], list(range(1, 11)))

    async def test_gap(self) -> None:
        """What was erased is announced, not passed over."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=n) for n in range(3)])
        _, page, _ = await world.call("GET", "/api/topics/room.a/events?since=0&limit=1")
        status, erased, _ = await world.call("DELETE", "/api/topics/room.a")
        self.assertEqual((status, erased["erased"]), (200, 3))
        _, rest, _ = await world.call("GET", f"/api/topics/room.a/events?since={page['cursor']}")
        self.assertEqual([(gap["reason"], gap["lost"]) for gap in rest["gaps"]], [("erased", 2)])

    async def test_long_poll(self) -> None:
        """With ``wait`` the answer comes with the first event, to every reader, or empty when the time is up."""
        world = await self.world()
        _, start, _ = await world.call("GET", "/api/topics/room.a/events")
        path = f"/api/topics/room.a/events?wait=20&since={start['cursor']}"
        first = Deferred.fromCoroutine(world.call("GET", path))
        second = Deferred.fromCoroutine(world.call("GET", "/api/events?topics=room.%23&wait=20"))
        while len(world.doors()) < 2 or not all(door.waits for door in world.doors()):
            await world.scribe.idle()
        await world.scribe.record([world.event("room.a", data="there")])
        for waiting in (first, second):
            _, page, _ = await waiting
            self.assertEqual([event["data"] for event in page["events"]], ["there"])
        _, empty, _ = await world.call("GET", f"/api/topics/room.a/events?wait=0.1&since={page['cursor']}")
        self.assertEqual((empty["events"], empty["cursor"]), ([], page["cursor"]))

    async def test_wrong_cursors(self) -> None:
        """A cursor that is none, or of another journal, is told apart."""
        world = await self.world()
        status, problem, _ = await world.call("GET", "/api/topics/room.a/events?since=nonsense")
        self.assertEqual((status, problem["code"]), (400, "invalid-cursor"))
        _, page, _ = await world.call("GET", "/api/topics/room.a/events?since=abc-5")
        self.assertEqual(page["gaps"][0]["reason"], "epoch")
        for query in ("before=abc-5", "before=0", "before=abc-5&since=0"):
            self.assertEqual((await world.call("GET", f"/api/topics/room.a/events?{query}"))[0], 400, query)

    async def test_rights(self) -> None:
        """History needs the right to subscribe; a pattern must be covered whole."""
        world = await self.world()
        bob = token("bob", "subscribe:room.*")
        for path, status in (
            ("/api/topics/room.a/events", 200),
            ("/api/topics/app.a/events", 403),
            ("/api/topics/user.bob/events", 200),
            ("/api/topics/user.ann/events", 403),
            ("/api/events?topics=room.*", 200),
            ("/api/events?topics=room.%23", 403),
            ("/api/events?topics=", 400),
            ("/api/topics/job.none/events", 404),
        ):
            self.assertEqual((await world.call("GET", path, who=bob))[0], status, path)
        self.assertEqual((await world.call("DELETE", "/api/topics/room.a", who=bob))[0], 403)
