"""``/api/dead``: messages that nothing could be done with."""

from __future__ import annotations

from typing import Any

from msgd.broker.topology import JOBS
from msgd.jobs.interface import State
from msgd.messages.envelope import Message
from tests.notifier.world import World, WorldCase, token


async def bury(world: World, body: bytes = b"no JSON \xff", **more: Any) -> None:
    """A foreign client's job message that could not become one."""
    message = Message(body=body, message_id="j1", headers={"raw": b"\xff", "deep": [{"a": 1}], "odd": float("nan")})
    await world.jobs.bury(
        message, reason="not-json: no JSON", queue=f"{JOBS}.paint", exchange=JOBS, key="paint", **more
    )


class DeadTest(WorldCase):
    """Dead letters over HTTP."""

    async def test_listed_and_explained(self) -> None:
        """Each is there with its reason, where it was, and its body as far as it can be read."""
        world = await self.world()
        await bury(world)
        status, page, _ = await world.call("GET", "/api/dead")
        self.assertEqual((status, page["before"]), (200, None))
        (letter,) = page["dead"]
        self.assertEqual(
            (letter["reason"], letter["key"], letter["job"], letter["body"], letter["bytes"]),
            ("not-json: no JSON", "paint", "j1", "no JSON \\xff", 9),
        )
        self.assertEqual(letter["headers"], {"raw": "\\xff", "deep": [{"a": 1}], "odd": "nan"})
        _, whole, _ = await world.call("GET", f"/api/dead/{letter['id']}")
        self.assertEqual(whole, letter)

    async def test_pages(self) -> None:
        """Newest first, page by page, bodies cut short."""
        world = await self.world()
        for number in range(5):
            await world.jobs.bury(
                Message(body=b"x" * 5000, message_id=f"e{number}"), reason="r", queue="q", exchange="e", key="k"
            )
        _, first, _ = await world.call("GET", "/api/dead?limit=3")
        _, second, _ = await world.call("GET", f"/api/dead?limit=3&before={first['before']}")
        found = [letter["message_id"] for letter in first["dead"] + second["dead"]]
        self.assertEqual((found, second["before"]), (["e4", "e3", "e2", "e1", "e0"], None))
        self.assertEqual({len(letter["body"]) for letter in first["dead"]}, {1000})
        _, whole, _ = await world.call("GET", f"/api/dead/{first['dead'][0]['id']}")
        self.assertEqual(len(whole["body"]), 5000)

    async def test_requeue(self) -> None:
        """A requeued letter is no letter any more, and its failed job begins anew; a second time there is nothing."""
        world = await self.world()
        await bury(world)
        (letter,) = await world.jobs.dead_letters()
        self.assertIs((await world.jobs.get("j1")).state, State.FAILED)
        status, said, _ = await world.call("POST", f"/api/dead/{letter.id}/requeue")
        self.assertEqual((status, said), (202, {"id": str(letter.id), "job": "j1"}))
        job = await world.jobs.get("j1")
        self.assertEqual((job.state, job.run), (State.QUEUED, 2))
        status, problem, _ = await world.call("POST", f"/api/dead/{letter.id}/requeue")
        self.assertEqual((status, problem["code"]), (404, "not-found"))

    async def test_drop(self) -> None:
        """A dropped letter is gone; its job stays."""
        world = await self.world()
        await bury(world)
        (letter,) = await world.jobs.dead_letters()
        status, _, _ = await world.call("DELETE", f"/api/dead/{letter.id}")
        self.assertEqual((status, await world.jobs.dead_letters()), (200, []))
        self.assertIs((await world.jobs.get("j1")).state, State.FAILED)

    async def test_refused(self) -> None:
        """Only who administers everything looks at them; what is no number is told."""
        world = await self.world()
        for method, path in (("GET", "/api/dead"), ("DELETE", "/api/dead/1"), ("POST", "/api/dead/1/requeue")):
            status, problem, _ = await world.call(method, path, who=token("bob", "admin:job.#"))
            self.assertEqual((status, problem["code"]), (403, "forbidden"), path)
        for number in ("x", "-1", "0", "9" * 30, "1.5", "١"):
            status, problem, _ = await world.call("GET", f"/api/dead/{number}")
            self.assertEqual((status, problem["where"]), (400, "id"), number)
