"""The HTTP API through real sockets."""

from __future__ import annotations

from tests.notifier.world import WorldCase, header, token


class JobsTest(WorldCase):
    """``/api/jobs``."""

    async def test_submit_and_show(self) -> None:
        """A submitted job is answered with its id and topic, and can be looked at."""
        world = await self.world()
        status, brief, response = await world.call("POST", "/api/jobs", {"type": "paint", "params": {"colour": "red"}})
        self.assertEqual(status, 202)
        self.assertEqual(brief["topic"], f"job.{brief['id']}")
        self.assertEqual(header(response, "location"), f"/api/jobs/{brief['id']}")
        status, job, _ = await world.call("GET", f"/api/jobs/{brief['id']}")
        self.assertEqual((status, job["state"], job["params"]), (200, "queued", {"colour": "red"}))
        self.assertEqual(job["owner"], "ann")

    async def test_wrong_params(self) -> None:
        """Params that the type does not take are refused at the door, naming the field."""
        world = await self.world()
        status, problem, response = await world.call("POST", "/api/jobs", {"type": "paint", "params": {"colour": 3}})
        self.assertEqual((status, problem["code"], problem["where"]), (400, "invalid-params", "params.colour"))
        self.assertEqual(header(response, "content-type"), "application/problem+json")

    async def test_page(self) -> None:
        world = await self.world()
        for path in ("/healthz", "/readyz", "/nowhere", "/ws"):
            print(path, (await world.call("GET", path, who=None))[:2])
        print(
            await world.call(
                "POST", "/api/jobs", {"type": "paint", "params": {"colour": 3}}, who=token("x", "submit:other")
            )
        )
        print(await world.call("GET", "/api/jobs", who=None))
