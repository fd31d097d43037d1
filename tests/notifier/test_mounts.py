"""Routes of services, mounted by the assembly: they order from the door, under its checks."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from msgd.notifier.interface import Answer, Call, JobRequest, Orders, Route, answer
from tests.notifier.world import WorldCase, token


class Painters:
    """The routes of a service that has things painted."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="POST", path="/api/walls", endpoint=self.paint),
            Route(method="DELETE", path="/api/walls/{job}", endpoint=self.stop),
        )

    async def paint(self, call: Call) -> Answer:
        """A wall's colour is the body."""
        self._orders.check_submit(call.principal, "paint")
        params = Raw(b'{"colour":' + call.body + b"}")
        job = await self._orders.submit(call.principal, JobRequest(type="paint", params=params))
        return answer({"job": job.id}, status=201)

    async def stop(self, call: Call) -> Answer:
        job = await self._orders.job(call.principal, call.words["job"])
        return answer({"state": (await self._orders.cancel(call.principal, job.id)).state.value})


class MountTest(WorldCase):
    """As an ``api.py`` does it."""

    async def test_orders(self) -> None:
        """A mounted route submits, looks and cancels for whoever asks, with the checks of the door's own routes."""
        world = await self.world(mounts=[lambda orders: Painters(orders).routes()])
        status, made, _ = await world.call("POST", "/api/walls", raw=b'"red"')
        self.assertEqual(status, 201)
        self.assertEqual((await world.jobs.get(made["job"])).owner, "ann")
        status, problem, _ = await world.call("POST", "/api/walls", raw=b'"red"', who=token("ben", "submit:crawl"))
        self.assertEqual((status, problem["code"]), (403, "forbidden"))
        status, problem, _ = await world.call("POST", "/api/walls", raw=b"7")
        self.assertEqual((status, problem["where"]), (400, "params.colour"))
        mine, theirs = token("ann", "submit:paint"), token("ben", "submit:paint")
        status, _, _ = await world.call("DELETE", f"/api/walls/{made['job']}", who=theirs)
        self.assertEqual(status, 404)
        status, told, _ = await world.call("DELETE", f"/api/walls/{made['job']}", who=mine)
        self.assertEqual((status, told["state"]), (200, "cancelled"))
        status, _, _ = await world.call("POST", "/api/walls", raw=b'"red"', who=None)
        self.assertEqual(status, 401)

    async def test_no_two_of_one_path(self) -> None:
        """A mounted route cannot take the place of another one."""
        taken = Route(method="GET", path="/api/jobs", endpoint=Painters(None).paint)  # type: ignore[arg-type]  # it is never called
        with self.assertRaises(ValueError):
            await self.world(mounts=[lambda _: (taken,)])
