"""``/api/types``: job types listed, paused and resumed."""

from __future__ import annotations

from typing import Any

from msgd.jobs.interface import Need, TypeInfo
from tests.notifier.world import WorldCase, token


class TypesTest(WorldCase):
    """What may be submitted, and whether workers begin it."""

    async def test_announced_type(self) -> None:
        """A type that some worker has announced is taken, with any object as params."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="dance", summary="Dances"))
        status, _, _ = await world.call("POST", "/api/jobs", {"type": "dance", "params": {"steps": 3}})
        self.assertEqual(status, 202)
        status, problem, _ = await world.call("POST", "/api/jobs", {"type": "dance", "params": [1]})
        self.assertEqual((status, problem["code"]), (400, "invalid-params"))
        _, types, _ = await world.call("GET", "/api/types")
        self.assertEqual([one["name"] for one in types["types"]], ["dance"])

    async def test_needs(self) -> None:
        """A type may say what rights its params take: whoever submits one, or runs it again, must have them."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="copy", needs=(Need("publish", "to"), Need("subscribe", "sources"))))
        _, types, _ = await world.call("GET", "/api/types")
        self.assertEqual(types["types"][0]["needs"][0], {"action": "publish", "param": "to"})
        bob = token("bob", "submit:copy", "publish:app.*", "subscribe:news.#")

        async def told(**params: Any) -> tuple[int, str, str]:
            status, body, _ = await world.call("POST", "/api/jobs", {"type": "copy", "params": params}, who=bob)
            return status, body.get("code", ""), body.get("where", "")

        self.assertEqual(await told(to="app.x", sources=["news.a", "news.*"]), (202, "", ""))
        self.assertEqual(await told(sources=None), (202, "", ""))
        self.assertEqual((await told(to="news.a"))[:2], (403, "forbidden"))
        self.assertEqual((await told(to="job.x"))[:2], (403, "forbidden"))
        self.assertEqual((await told(to="app.x", sources=["news.a", "app.x"]))[:2], (403, "forbidden"))
        self.assertEqual(await told(to="app.*"), (400, "invalid-params", "params.to"))
        self.assertEqual(await told(to=7), (400, "invalid-params", "params.to"))
        self.assertEqual(await told(to={"a": 1}), (400, "invalid-params", "params.to"))
        self.assertEqual(await told(sources=[["a"]]), (400, "invalid-params", "params.sources"))

    async def test_needs_of_a_private_room(self) -> None:
        """Who may not publish to a private room has no job publish there either."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="copy", needs=(Need("publish", "to"),)))
        await world.call("POST", "/api/rooms", {"name": "den", "private": True, "members": ["ann"]}, who=token("ann"))
        asked = {"type": "copy", "params": {"to": "room.den"}}
        can = ("submit:copy", "publish:room.*")
        self.assertEqual((await world.call("POST", "/api/jobs", asked, who=token("bob", *can)))[0], 403)
        self.assertEqual((await world.call("POST", "/api/jobs", asked, who=token("ann", *can)))[0], 202)

    async def test_needs_when_it_runs_again(self) -> None:
        """A job runs again with the rights of who asks for that."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="copy", needs=(Need("publish", "to"),)))
        asked = {"type": "copy", "params": {"to": "app.x"}}
        _, made, _ = await world.call("POST", "/api/jobs", asked, who=token("bob", "submit:copy", "publish:app.x"))
        await world.jobs.cancel(made["id"])
        path = f"/api/jobs/{made['id']}/retry"
        self.assertEqual((await world.call("POST", path, who=token("bob", "submit:copy")))[0], 403)
        self.assertEqual((await world.call("POST", path, who=token("bob", "submit:copy", "publish:app.#")))[0], 202)

    async def test_switch(self) -> None:
        """A type is paused and resumed by who administers jobs, and shown so."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="paint"))
        status, type_, _ = await world.call("POST", "/api/types/paint/pause")
        self.assertEqual((status, type_["paused"]), (200, True))
        self.assertTrue((await world.jobs.types())[0].paused)
        _, type_, _ = await world.call("POST", "/api/types/paint/resume")
        self.assertFalse(type_["paused"])
        status, _, _ = await world.call("POST", "/api/types/paint/pause", who=token("bob", "submit:paint"))
        self.assertEqual(status, 403)
        status, _, _ = await world.call("POST", "/api/types/nonsense/pause")
        self.assertEqual(status, 404)
