"""``/api/webhooks``: who may do what, and what is shown."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.jobs.interface import Claimed, ClaimRequest, Job, JobFilter, Problem, State
from tests.notifier.world import World, forget_timers, token
from tests.services.messenger.webhooks.world import WebhookWorld

ANN = token("ann", "submit:webhook", "subscribe:app.#")
BOB = token("bob", "submit:webhook")
ADMIN = token("root", "admin:#")
URL = "https://example.com/hook"


class ApiTest(TestCase):
    """Endpoints over HTTP."""

    timeout = 300

    async def opened(self) -> World:
        world = WebhookWorld()
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start()
        return world

    async def make(self, world: World, who: str = ANN, **more: Any) -> dict[str, Any]:
        status, made, _ = await world.call("POST", "/api/webhooks", {"url": URL, **more}, who=who)
        self.assertEqual(status, 201, made)
        return dict(made)

    async def jobs(self, world: World) -> list[Job]:
        return list(await world.jobs.list(JobFilter(type="webhook", limit=1000)))

    async def test_create_and_show(self) -> None:
        """The secret is told once, to whoever made the endpoint."""
        world = await self.opened()
        made = await self.make(world, description="Invoices")
        self.assertRegex(made.pop("secret"), r"^whsec_[A-Za-z0-9+/]{43}=$")
        self.assertEqual((made["owner"], made["url"], made["description"]), ("ann", URL, "Invoices"))
        self.assertEqual((made["enabled"], made["failing_since"]), (True, None))
        status, shown, _ = await world.call("GET", f"/api/webhooks/{made['id']}", who=ANN)
        self.assertEqual((status, shown), (200, made))
        status, listed, _ = await world.call("GET", "/api/webhooks", who=ANN)
        self.assertEqual(listed, {"webhooks": [made], "next": None})

    async def test_pages(self) -> None:
        """Lists go on after the last of the page before."""
        world = await self.opened()
        ids = [(await self.make(world))["id"] for _ in range(3)]
        _, page, _ = await world.call("GET", "/api/webhooks?limit=2", who=ANN)
        self.assertEqual(([one["id"] for one in page["webhooks"]], page["next"]), (ids[:2], ids[1]))
        _, page, _ = await world.call("GET", f"/api/webhooks?limit=2&after={page['next']}", who=ANN)
        self.assertEqual(([one["id"] for one in page["webhooks"]], page["next"]), (ids[2:], None))

    async def test_owner_is_revoked(self) -> None:
        """When the tokens of its owner are revoked nothing is sent to an endpoint, until the owner has a new one and
        enables it; what others have is as it was."""
        world = await self.opened()
        path, others = [f"/api/webhooks/{(await self.make(world, who))['id']}" for who in (ANN, BOB)]
        self.assertEqual((await world.call("POST", "/api/revoke", {"sub": "ann"}, who=ADMIN))[0], 200)
        shown = (await world.call("GET", path, who=ADMIN))[1]
        self.assertEqual(shown["enabled"], False)
        self.assertIn("tokens of its owner were revoked", shown["reason"])
        self.assertEqual((await world.call("GET", others, who=BOB))[1]["enabled"], True)
        self.assertEqual((await world.call("POST", f"{path}/ping", who=ADMIN))[0], 409)
        new = token("ann", "submit:webhook", ahead_s=2)
        status, shown, _ = await world.call("PUT", path, {"enabled": True}, who=new)
        self.assertEqual((status, shown["enabled"], shown["reason"]), (200, True, ""))

    async def test_whose(self) -> None:
        """Of another's endpoint one does not learn that it exists; whoever administers its owner's topic may all."""
        world = await self.opened()
        id_ = (await self.make(world))["id"]
        for method, path, body in (
            ("GET", "", None),
            ("PUT", "", {"description": "mine"}),
            ("DELETE", "", None),
            ("POST", "/rotate", {}),
            ("POST", "/ping", None),
            ("POST", "/replay", {"topics": ["user.bob"]}),
            ("GET", "/deliveries", None),
        ):
            status, answer, _ = await world.call(method, f"/api/webhooks/{id_}{path}", body, who=BOB)
            self.assertEqual((status, answer["code"]), (404, "not-found"), (method, path))
        _, listed, _ = await world.call("GET", "/api/webhooks", who=BOB)
        self.assertEqual(listed["webhooks"], [])
        _, listed, _ = await world.call("GET", "/api/webhooks", who=ADMIN)
        self.assertEqual([one["id"] for one in listed["webhooks"]], [id_])
        _, listed, _ = await world.call("GET", "/api/webhooks?mine=1", who=ADMIN)
        self.assertEqual(listed["webhooks"], [])
        status, _, _ = await world.call("DELETE", f"/api/webhooks/{id_}", who=ADMIN)
        self.assertEqual(status, 204)
        status, answer, _ = await world.call("POST", "/api/webhooks", {"url": URL}, who=token("eve", "submit:crawl"))
        self.assertEqual((status, answer["code"]), (403, "forbidden"))

    async def test_bad_input(self) -> None:
        """What is wrong is named."""
        world = await self.opened()
        id_ = (await self.make(world))["id"]
        one = f"/api/webhooks/{id_}"
        for method, path, body, where in (
            ("POST", "/api/webhooks", {"url": "example.com"}, "url"),
            ("POST", "/api/webhooks", {"url": "x" * 3000}, "url"),
            ("POST", "/api/webhooks", {"url": URL, "description": "x" * 201}, "description"),
            ("POST", "/api/webhooks", {"url": URL, "secret": "mine"}, "body"),
            ("POST", "/api/webhooks", [], "body"),
            ("PUT", one, {"enabled": "yes"}, "body.enabled"),
            ("POST", f"{one}/rotate", {"overlap": -1}, "overlap"),
            ("POST", f"{one}/rotate", {"overlap": 1e12}, "overlap"),
            ("POST", f"{one}/replay", {"topics": []}, "topics"),
            ("POST", f"{one}/replay", {"topics": ["app..x"]}, "topic"),
            ("POST", f"{one}/replay", {"topics": ["app.x"], "since": "yesterday"}, "since"),
            ("POST", f"{one}/replay", {"topics": ["app.x"], "since": "2026-13-01T00:00:00Z"}, "since"),
            ("POST", f"{one}/replay", {"topics": ["app.x"], "until": "other-1"}, "until"),
        ):
            status, answer, _ = await world.call(method, path, body, who=ANN)
            self.assertEqual((status, answer.get("where", "")), (400, where), (method, path, body, answer))

    async def test_change_and_rotate(self) -> None:
        """An endpoint is changed, disabled, enabled again; its secret rotates, the old one counting for a while."""
        world = await self.opened()
        made = await self.make(world)
        one = f"/api/webhooks/{made['id']}"
        _, changed, _ = await world.call("PUT", one, {"url": "http://a.example", "enabled": False}, who=ANN)
        self.assertEqual((changed["url"], changed["enabled"]), ("http://a.example/", False))
        self.assertEqual(changed["reason"], "its owner disabled it")
        status, answer, _ = await world.call("POST", f"{one}/ping", who=ANN)
        self.assertEqual((status, answer["code"]), (409, "conflict"))
        _, changed, _ = await world.call("PUT", one, {"enabled": True}, who=ANN)
        self.assertEqual((changed["enabled"], changed["reason"]), (True, ""))
        _, rotated, _ = await world.call("POST", f"{one}/rotate", {"overlap": 60}, who=ANN)
        self.assertNotEqual(rotated["secret"], made["secret"])
        self.assertIsNotNone(rotated["old_secret_until"])
        _, rotated, _ = await world.call("POST", f"{one}/rotate", {"overlap": 0}, who=ANN)
        self.assertIsNone(rotated["old_secret_until"])

    async def test_ping(self) -> None:
        """A ping is a job of the owner's."""
        world = await self.opened()
        made = await self.make(world)
        status, answer, _ = await world.call("POST", f"/api/webhooks/{made['id']}/ping", who=ADMIN)
        self.assertEqual((status, answer["state"]), (202, "queued"))
        (job,) = await self.jobs(world)
        self.assertEqual((job.id, job.owner), (answer["id"], "ann"))
        params = msgspec.json.decode(job.params)
        self.assertEqual((params["endpoint"], params["event"]), (made["id"], "msgd.ping"))

    async def test_replay(self) -> None:
        """Events of the journal become jobs, once; what had failed is run again."""
        world = await self.opened()
        made = await self.make(world)
        recorded = await world.scribe.record(
            [world.event(f"app.invoice.{n}", "created", {"n": n}, time_ms=1_000_000 * n) for n in range(5)]
            + [world.event("app.other", "not an event name")]
        )
        path = f"/api/webhooks/{made['id']}/replay"
        status, answer, _ = await world.call("POST", path, {"topics": ["app.invoice.*"]}, who=ANN)
        self.assertEqual((status, answer["submitted"], answer["known"], answer["more"]), (202, 5, 0, False))
        jobs = {msgspec.json.decode(job.params)["data"]["topic"]: job for job in await self.jobs(world)}
        params = msgspec.json.decode(jobs["app.invoice.3"].params)
        self.assertEqual((params["event"], params["time"]), ("created", "1970-01-01T00:50:00.000Z"))
        self.assertEqual((params["data"]["seq"], params["data"]["data"]), (1, {"n": 3}))
        self.assertEqual(len({msgspec.json.decode(job.params)["id"] for job in jobs.values()}), 5)
        failed = jobs["app.invoice.2"]
        await self.fail_job(world, failed)
        _, answer, _ = await world.call("POST", path, {"topics": ["app.#"]}, who=ANN)
        self.assertEqual((answer["submitted"], answer["again"], answer["known"]), (1, 1, 4))
        self.assertEqual((await world.jobs.get(failed.id)).run, 2)
        since = recorded[3].cursor((await world.journal.head()).epoch)
        _, answer, _ = await world.call("POST", path, {"topics": ["app.invoice.#"], "since": since}, who=ANN)
        self.assertEqual((answer["submitted"], answer["known"]), (0, 1))
        times = {"since": "1970-01-01T00:16:40Z", "until": "1970-01-01T00:33:20Z"}
        _, answer, _ = await world.call("POST", path, {"topics": ["app.invoice.#"], **times}, who=ANN)
        self.assertEqual((answer["submitted"], answer["known"]), (0, 2))

    async def test_replay_is_bounded(self) -> None:
        """One request makes 500 jobs at most, and says where to go on."""
        world = await self.opened()
        path = f"/api/webhooks/{(await self.make(world))['id']}/replay"
        await world.scribe.record([world.event("app.x", "created", number) for number in range(600)])
        _, answer, _ = await world.call("POST", path, {"topics": ["app.x"]}, who=ANN)
        self.assertEqual((answer["submitted"], answer["more"]), (500, True))
        _, answer, _ = await world.call("POST", path, {"topics": ["app.x"], "since": answer["cursor"]}, who=ANN)
        self.assertEqual((answer["submitted"], answer["more"]), (100, False))

    async def test_replay_takes_the_right_to_read(self) -> None:
        """Nobody has sent to himself what he may not read; rooms, which may be private, take admin."""
        world = await self.opened()
        id_ = (await self.make(world, who=token("ann", "submit:webhook", "subscribe:#")))["id"]
        for can, topic, status in (
            ("subscribe:app.#", "app.#", 202),
            ("subscribe:app.#", "user.ann", 202),
            ("subscribe:app.#", "user.bob", 403),
            ("subscribe:app.#", "#", 403),
            ("subscribe:#", "room.secret", 403),
            ("subscribe:#", "*.secret", 403),
            ("admin:#", "#", 202),
        ):
            who = token("ann", "submit:webhook", can)
            found, answer, _ = await world.call("POST", f"/api/webhooks/{id_}/replay", {"topics": [topic]}, who=who)
            self.assertEqual(found, status, (can, topic, answer))

    async def fail_job(self, world: World, job: Job) -> None:
        """End a job as failed, as its worker would."""
        claimed = await world.jobs.claim(ClaimRequest(job.id, job.slice, "test", redelivered=False))
        assert isinstance(claimed, Claimed)
        await world.jobs.end(claimed.claim, State.FAILED, problem=Problem("peer", "gone"))
