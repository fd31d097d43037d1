"""``/api/jobs`` through real sockets, on the embedded broker and SQLite."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from msgd.jobs.interface import Claimed, ClaimRequest, State, TypeInfo
from msgd.messages.events import Event
from tests.notifier.raw import connect
from tests.notifier.world import PAINTING, World, WorldCase, header, token


class JobsTest(WorldCase):
    """``/api/jobs``."""

    async def test_submit_and_show(self) -> None:
        """A submitted job is answered with its id and topic, and can be looked at."""
        world = await self.world()
        status, brief, response = await world.call("POST", "/api/jobs", PAINTING)
        self.assertEqual(status, 202)
        self.assertEqual(brief["topic"], f"job.{brief['id']}")
        self.assertEqual(header(response, "location"), f"/api/jobs/{brief['id']}")
        status, job, _ = await world.call("GET", f"/api/jobs/{brief['id']}")
        self.assertEqual((status, job["state"], job["params"]), (200, "queued", {"colour": "red"}))
        self.assertEqual((job["owner"], job["run"]), ("ann", 1))

    async def test_key(self) -> None:
        """The same key of the same principal is the same job; another principal's is another."""
        world = await self.world()
        ids = []
        for who in ("ann", "ann", "bob"):
            _, brief, _ = await world.call("POST", "/api/jobs", {**PAINTING, "key": "k"}, who=token(who))
            ids.append(brief["id"])
        self.assertEqual(ids[0], ids[1])
        self.assertNotEqual(ids[0], ids[2])

    async def test_key_of_another_type(self) -> None:
        """It is the first job all the same, and the answer tells of which type that is; else it does not."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="dance"))
        _, first, _ = await world.call("POST", "/api/jobs", {**PAINTING, "key": "k"})
        status, again, _ = await world.call("POST", "/api/jobs", {"type": "dance", "params": {}, "key": "k"})
        self.assertEqual((status, again), (202, {**first, "type": "paint"}))
        self.assertNotIn("type", first)

    async def test_while_the_broker_is_down(self) -> None:
        """Jobs are taken although there is no broker: they are safe in the database. Events are not: 503."""
        world = await self.world(broker=False)
        status, _, _ = await world.call("POST", "/api/jobs", PAINTING)
        self.assertEqual(status, 202)
        status, problem, response = await world.call("POST", "/api/events", {"topic": "room.a", "type": "said"})
        self.assertEqual((status, problem["code"]), (503, "broker-unavailable"))
        self.assertEqual(header(response, "retry-after"), "2")
        status, report, _ = await world.call("GET", "/readyz", who=None)
        self.assertEqual((status, report["checks"]["broker"]["ok"]), (503, False))

    async def test_refusals(self) -> None:
        """Each wrong submission is refused with the code and the place of what is wrong."""
        world = await self.world()
        for body, status, code, where in (
            ({"type": "paint", "params": {"colour": 3}}, 400, "invalid-params", "params.colour"),
            ({"type": "paint", "params": {}}, 400, "invalid-params", "params"),
            ({"type": "dance"}, 400, "unknown-type", "type"),
            ({"type": "no way"}, 400, "unknown-type", "type"),
            ({"params": {}}, 400, "invalid", "body"),
            ({**PAINTING, "priority": "urgent"}, 400, "invalid", "priority"),
            ({**PAINTING, "delay": -1}, 400, "invalid", "delay"),
            ({**PAINTING, "key": "x" * 201}, 400, "invalid", "key"),
            ([], 400, "invalid", "body"),
        ):
            got, problem, response = await world.call("POST", "/api/jobs", body)
            self.assertEqual((got, problem["code"], problem["where"]), (status, code, where), str(body))
            self.assertEqual(header(response, "content-type"), "application/problem+json")

    async def test_others_jobs(self) -> None:
        """Somebody else's job is not there; without the right nothing is submitted."""
        world = await self.world()
        job = await world.job("ann")
        bob = token("bob", "submit:dance")
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/results")):
            status, problem, _ = await world.call(method, f"/api/jobs/{job}{path}", who=bob)
            self.assertEqual((status, problem["code"]), (404, "not-found"))
        status, page, _ = await world.call("GET", "/api/jobs", who=bob)
        self.assertEqual((status, page["jobs"]), (200, []))
        status, problem, _ = await world.call("POST", "/api/jobs", PAINTING, who=bob)
        self.assertEqual((status, problem["code"]), (403, "forbidden"))
        watcher = token("eve", "subscribe:job.#")
        self.assertEqual((await world.call("GET", f"/api/jobs/{job}", who=watcher))[0], 200)
        self.assertEqual((await world.call("DELETE", f"/api/jobs/{job}", who=watcher))[0], 403)

    async def test_list(self) -> None:
        """Newest first, page by page, filtered; one's own, or all for who administers them."""
        world = await self.world()
        made = [await world.job("ann") for _ in range(5)] + [await world.job("bob")]
        _, page, _ = await world.call("GET", "/api/jobs?limit=2", who=token("ann", "submit:paint"))
        self.assertEqual([job["id"] for job in page["jobs"]], [made[4], made[3]])
        _, page, _ = await world.call(
            "GET", f"/api/jobs?limit=3&before={page['before']}", who=token("ann", "submit:paint")
        )
        self.assertEqual([job["id"] for job in page["jobs"]], [made[2], made[1], made[0]])
        self.assertIsNone(page["before"])
        _, page, _ = await world.call("GET", "/api/jobs")
        self.assertEqual(len(page["jobs"]), 6)
        _, page, _ = await world.call("GET", "/api/jobs?mine=1")
        self.assertEqual(len(page["jobs"]), 5)
        _, page, _ = await world.call("GET", "/api/jobs?state=done")
        self.assertEqual(page["jobs"], [])
        self.assertEqual(len((await world.call("GET", "/api/jobs?parent=none"))[1]["jobs"]), 6)
        self.assertEqual((await world.call("GET", f"/api/jobs?parent={made[0]}"))[1]["jobs"], [])
        for query in ("state=asleep", "parent=a.b", "limit=x", "limit=0", "before=a.b", "type=a%00", "limit=1&limit=2"):
            status, _, _ = await world.call("GET", f"/api/jobs?{query}")
            self.assertEqual(status, 400, query)

    async def test_cancel_and_run_again(self) -> None:
        """A queued job is cancelled at once; an ended one runs again; one that has not ended does not."""
        world = await self.world()
        job = await world.job()
        self.assertEqual((await world.call("POST", f"/api/jobs/{job}/retry"))[0], 409)
        status, _, _ = await world.call("DELETE", f"/api/jobs/{job}")
        self.assertEqual(status, 202)
        found = await world.jobs.get(job)
        self.assertIs(found.state, State.CANCELLED)
        # The end counts once its event is recorded: until then the page says "running".
        _, shown, _ = await world.call("GET", f"/api/jobs/{job}")
        self.assertEqual((shown["state"], shown["ended"]), ("running", None))
        status, again, _ = await world.call("POST", f"/api/jobs/{job}/retry")
        self.assertEqual((status, again["run"], again["state"]), (202, 2, "queued"))

    async def test_cancel_what_has_ended(self) -> None:
        """A job whose end is recorded is shown as it ended, whoever cancels it: there is nothing under way."""
        world = await self.world()
        job = await world.job()
        self.assertEqual((await world.call("DELETE", f"/api/jobs/{job}"))[0], 202)
        await world.scribe.record([world.event(f"job.{job}", "cancelled", None, run=1, token=1, source="paint")])
        status, shown, _ = await world.call("DELETE", f"/api/jobs/{job}")
        self.assertEqual((status, shown["state"]), (200, "cancelled"))


class ResultsTest(WorldCase):
    """``GET /api/jobs/{id}/results``."""

    async def results(self, world: World, rows: list[dict[str, Any]]) -> str:
        """A job whose results are ``rows``; other events stand between them."""
        job = await world.job()
        claimed = await world.jobs.claim(ClaimRequest(job=job, slice=0, worker="test", redelivered=False))
        assert isinstance(claimed, Claimed)

        def event(type_: str, number: int, data: Any) -> Event:
            return world.event(
                f"job.{job}", type_, data, id=f"{type_}{number}", run=1, token=claimed.claim.token, source="paint"
            )

        events = [event("started", 0, {})]
        for number, row in enumerate(rows):
            events += [event("page", number, {"url": "x"}), event("result", number, row)]
        for start in range(0, len(events), 400):
            await world.scribe.record(events[start : start + 400])
        return job

    async def test_forms(self) -> None:
        """The same results as JSON, lines and a table, with seq and time added; other events are left out."""
        world = await self.world()
        job = await self.results(world, [{"name": "a", "value": "1"}, {"value": "=1+1", "more": [1, {"x": 2}]}])
        _, records, _ = await world.call("GET", f"/api/jobs/{job}/results")
        self.assertEqual([(one["value"], one["seq"]) for one in records], [("1", 3), ("=1+1", 5)])
        _, lines, response = await world.call("GET", f"/api/jobs/{job}/results?format=ndjson")
        self.assertEqual([msgspec.json.decode(line) for line in lines.splitlines()], records)
        self.assertEqual(header(response, "content-type"), "application/x-ndjson")
        _, table, response = await world.call("GET", f"/api/jobs/{job}/results?format=csv")
        rows = list(csv.reader(io.StringIO(table.decode())))
        self.assertEqual(rows[0], ["name", "value", "more", "seq", "time"])
        self.assertEqual(rows[2][:4], ["", "'=1+1", '[1,{"x":2}]', "5"])
        self.assertEqual(header(response, "content-disposition"), f'attachment; filename="paint-{job}.csv"')
        _, marked, _ = await world.call("GET", f"/api/jobs/{job}/results?format=csv&bom=1")
        self.assertEqual(marked, b"\xef\xbb\xbf" + table)

    async def test_none_and_wrong_form(self) -> None:
        """A job without results has an empty file; a form that there is not is refused."""
        world = await self.world()
        job = await world.job()
        self.assertEqual((await world.call("GET", f"/api/jobs/{job}/results"))[1], [])
        _, table, _ = await world.call("GET", f"/api/jobs/{job}/results?format=csv")
        self.assertEqual(table, b"seq,time\r\n")
        status, problem, _ = await world.call("GET", f"/api/jobs/{job}/results?format=xml")
        self.assertEqual((status, problem["where"]), (400, "format"))

    async def test_many(self) -> None:
        """Thousands of results come whole and in order, page by page."""
        world = await self.world()
        job = await self.results(world, [{"value": f"{n}"} for n in range(2500)])
        _, records, _ = await world.call("GET", f"/api/jobs/{job}/results")
        self.assertEqual([one["value"] for one in records], [str(n) for n in range(2500)])

    async def test_client_that_does_not_read(self) -> None:
        """What a client does not take is not read from the journal: the answer waits in no memory of ours."""
        world = await self.world()
        job = await self.results(world, [{"value": "x" * 20_000} for _ in range(2500)])
        reads = 0
        read = world.journal.read

        async def counted(*args: Any, **kw: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(*args, **kw)

        self.patch(world.journal, "read", counted)
        stalled = await connect(world)
        stalled.transport.pauseProducing()
        stalled.send(f"GET /api/jobs/{job}/results?format=ndjson", [f"Authorization: Bearer {token()}"])
        # An unhindered client takes all of it meanwhile.
        _, whole, _ = await world.call("GET", f"/api/jobs/{job}/results?format=ndjson")
        self.assertGreater(len(whole), 2500 * 20_000)
        unhindered = 14  # 5,001 events, of which 4 MiB fit a page
        self.assertLess(reads, 2 * unhindered)
        stalled.transport.abortConnection()
        await stalled.ended
