"""The HTTP API through real sockets, on the embedded broker and SQLite."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from msgd.config.settings import Notifier as Settings
from msgd.jobs.interface import Claimed, ClaimRequest, State, TypeInfo
from msgd.messages.events import Event
from msgd.notifier.auth import SecretKeys, Tokens
from msgd.notifier.http import Door, DoorSite
from msgd.notifier.limits import BATCH_EVENTS, IDLE_S, PACE_BYTES, REQUEST_BYTES
from msgd.notifier.origins import Origins
from tests.notifier.world import SECRET, World, WorldCase, header, pause, reactor, token

PAINT: dict[str, Any] = {"type": "paint", "params": {"colour": "red"}}


class JobsTest(WorldCase):
    """``/api/jobs``."""

    async def test_submit_and_show(self) -> None:
        """A submitted job is answered with its id and topic, and can be looked at."""
        world = await self.world()
        status, brief, response = await world.call("POST", "/api/jobs", PAINT)
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
            _, brief, _ = await world.call("POST", "/api/jobs", {**PAINT, "key": "k"}, who=token(who))
            ids.append(brief["id"])
        self.assertEqual(ids[0], ids[1])
        self.assertNotEqual(ids[0], ids[2])

    async def test_while_the_broker_is_down(self) -> None:
        """Jobs are taken although there is no broker: they are safe in the database. Events are not: 503."""
        world = await self.world(broker=False)
        status, _, _ = await world.call("POST", "/api/jobs", PAINT)
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
            ({**PAINT, "priority": "urgent"}, 400, "invalid", "priority"),
            ({**PAINT, "delay": -1}, 400, "invalid", "delay"),
            ({**PAINT, "key": "x" * 201}, 400, "invalid", "key"),
            ([], 400, "invalid", "body"),
        ):
            got, problem, response = await world.call("POST", "/api/jobs", body)
            self.assertEqual((got, problem["code"], problem["where"]), (status, code, where), str(body))
            self.assertEqual(header(response, "content-type"), "application/problem+json")

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
        status, problem, _ = await world.call("POST", "/api/jobs", PAINT, who=bob)
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
        for query in ("state=asleep", "limit=x", "limit=0", "before=a.b", "type=a%00", "limit=1&limit=2"):
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
        page: dict[str, Any] = {"events": []}
        while len(page["events"]) < 2:
            _, page, _ = await world.call("GET", "/api/topics/app.invoice/events?since=0&wait=5")
        self.assertEqual([event["source"] for event in page["events"]], ["/shop", "bob"])
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
        await pause(0.2)
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


class SessionTest(WorldCase):
    """The dashboard's cookie."""

    async def login(self, world: World, **headers: str) -> str:
        status, view, response = await world.call(
            "POST", "/api/session", {"token": token("ann", "submit:paint")}, who=None, headers=headers
        )
        self.assertEqual((status, view["sub"], view["can"]), (201, "ann", ["submit:paint"]))
        return header(response, "set-cookie")

    async def test_cookie(self) -> None:
        """A token is traded for a cookie that scripts and other sites cannot use, and that lives as long."""
        world = await self.world()
        cookie = await self.login(world)
        for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="):
            self.assertIn(attribute, cookie)
        self.assertNotIn("Secure", cookie)
        given = {"Cookie": cookie.partition(";")[0]}
        _, view, _ = await world.call("GET", "/api/session", who=None, headers=given)
        self.assertEqual(view["sub"], "ann")
        status, _, response = await world.call("DELETE", "/api/session", who=None, headers=given)
        self.assertEqual(status, 204)
        self.assertIn("Max-Age=0", header(response, "set-cookie"))

    async def test_secure(self) -> None:
        """A page that came over TLS gets a cookie that only travels over TLS."""
        settings = Settings(origins=("https://dash.example.com",))
        world = await self.world(settings)
        self.assertIn("; Secure", await self.login(world, Origin="https://dash.example.com"))

    async def test_stranger(self) -> None:
        """Who has no token, or a spoilt one, is nobody; that is no error."""
        world = await self.world()
        for who in (None, "spoilt"):
            status, view, _ = await world.call("GET", "/api/session", who=who)
            self.assertEqual((status, view), (200, {"sub": None}))
        status, problem, _ = await world.call("POST", "/api/session", {"token": "spoilt"}, who=None)
        self.assertEqual((status, problem["code"]), (401, "unauthenticated"))

    async def test_foreign_pages(self) -> None:
        """A page of another site can neither write with the cookie nor log a user in."""
        world = await self.world()
        cookie = (await self.login(world)).partition(";")[0]
        own = f"http://127.0.0.1:{world.port}"
        for headers, status in (
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": own}, 202),
            ({"Sec-Fetch-Site": "same-origin"}, 202),
            ({}, 202),
        ):
            got, _, _ = await world.call("POST", "/api/jobs", PAINT, who=None, headers={"Cookie": cookie, **headers})
            self.assertEqual(got, status, str(headers))
        got, _, _ = await world.call(
            "POST", "/api/session", {"token": token()}, who=None, headers={"Origin": "https://evil.example"}
        )
        self.assertEqual(got, 403)
        # A token in a header is no cookie: the page has it, so it may use it.
        got, _, _ = await world.call("POST", "/api/jobs", PAINT, headers={"Origin": "https://evil.example"})
        self.assertEqual(got, 202)

    async def test_cors(self) -> None:
        """Pages on the list may read answers and are told so before they ask; others are not."""
        world = await self.world(Settings(cors=("https://app.example.com",)))
        for origin, allowed in (("https://app.example.com", "https://app.example.com"), ("https://evil.example", "")):
            for method in ("GET", "OPTIONS"):
                _, _, response = await world.call(method, "/api/jobs", headers={"Origin": origin})
                self.assertEqual(header(response, "access-control-allow-origin"), allowed)
        self.assertEqual(header(response, "access-control-allow-methods"), "")


class DoorTest(WorldCase):
    """What holds for every route."""

    async def test_errors(self) -> None:
        """Nothing there, no such method, no acceptable form, no JSON: each has its status and its problem document."""
        world = await self.world()
        json = {"Content-Type": "application/json"}
        for method, path, headers, raw, status, code in (
            ("GET", "/nowhere", {}, None, 404, "not-found"),
            ("GET", "/api/jobs/%FF", {}, None, 400, "invalid"),
            ("PUT", "/api/jobs", {}, None, 405, "method-not-allowed"),
            ("GET", "/api/jobs", {"Accept": "image/png"}, None, 406, "not-acceptable"),
            ("GET", "/api/jobs", {"Accept": "text/html;q=0.5, */*;q=0.1"}, None, 200, None),
            ("POST", "/api/jobs", {"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type"),
            ("POST", "/api/jobs", json, b"{", 400, "not-json"),
            ("POST", "/api/jobs", json, b'{"type": "\xff"}', 400, "not-json"),
            ("POST", "/api/jobs", json, b"[" * 100_000, 400, None),
            ("POST", "/api/jobs", json, b"", 400, "not-json"),
            ("GET", "/ws", {}, None, 426, "upgrade-required"),
        ):
            got, body, _ = await world.call(method, path, headers=headers, raw=raw)
            self.assertEqual(got, status, f"{method} {path} {headers} {body}")
            if code is not None:
                self.assertEqual(body["code"], code, f"{method} {path}")

    async def test_allow(self) -> None:
        """405 and OPTIONS name the methods that there are."""
        world = await self.world()
        for method in ("PUT", "OPTIONS"):
            _, _, response = await world.call(method, "/api/jobs")
            self.assertEqual(header(response, "allow"), "GET, HEAD, OPTIONS, POST")

    async def test_too_large(self) -> None:
        """A body over the limit is answered with 413, declared or not, and is not kept."""
        world = await self.world()
        status, problem, _ = await world.call("POST", "/api/jobs", raw=b" " * (REQUEST_BYTES + 1))
        self.assertEqual((status, problem["code"]), (413, "too-large"))
        client = await connect(world)
        client.send("POST /api/jobs", ["Transfer-Encoding: chunked", f"Authorization: Bearer {token()}"])
        chunk = b"%x\r\n%b\r\n" % (65536, b" " * 65536)
        for _ in range(REQUEST_BYTES // 65536 + 1):
            client.transport.write(chunk)
        client.transport.write(b"0\r\n\r\n")
        await client.ended
        self.assertIn(b"413", client.data.split(b"\r\n")[0])

    async def test_endless(self) -> None:
        """A body without end is cut off."""
        world = await self.world()
        client = await connect(world)
        client.send("POST /api/jobs", ["Transfer-Encoding: chunked"])
        client.flood(b"%x\r\n%b\r\n" % (65536, b" " * 65536))
        await client.ended

    async def test_head(self) -> None:
        """HEAD answers like GET, without the body."""
        world = await self.world()
        for path in ("/healthz", "/"):
            _, _, get = await world.call("GET", path)
            status, body, head = await world.call("HEAD", path)
            self.assertEqual((status, body), (200, b""))
            self.assertEqual(head.headers.hasHeader("content-length"), True)
            self.assertEqual(header(head, "content-type"), header(get, "content-type"))

    async def test_says_nothing_of_itself(self) -> None:
        """No answer names our software or its version, and none is sniffed for its type or kept by caches."""
        world = await self.world()
        for path in ("/", "/nowhere", "/api/jobs"):
            _, _, response = await world.call("GET", path)
            self.assertEqual(header(response, "server"), "")
            self.assertEqual(header(response, "x-content-type-options"), "nosniff")
            self.assertEqual(header(response, "referrer-policy"), "no-referrer")
            self.assertIn(header(response, "cache-control"), ("no-store", "no-cache"))

    async def test_headers_of_any_bytes(self) -> None:
        """A header that is not UTF-8 is what cannot be understood, and no mistake of ours."""
        world = await self.world()
        for name, status in ((b"Accept", b"406"), (b"Authorization", b"401"), (b"Cookie", b"401"), (b"Origin", b"401")):
            raw = await connect(world)
            raw.transport.write(b"GET /api/jobs HTTP/1.0\r\n" + name + b": bearer \xff\xfe\r\n\r\n")
            await raw.ended
            self.assertEqual(raw.data.split()[1], status, name)

    async def test_our_own_mistakes(self) -> None:
        """An error that we did not expect is logged, and nothing of it is told."""
        world = await self.world()

        async def broken(job: str) -> None:
            raise ZeroDivisionError("the secret plan")

        self.patch(world.jobs, "get", broken)
        status, problem, _ = await world.call("GET", "/api/jobs/x")
        self.assertEqual((status, problem["code"]), (500, "internal"))
        self.assertNotIn("plan", str(problem))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_authentication(self) -> None:
        """Without a token, or with one that is not good, the API says so; the challenge names the scheme."""
        world = await self.world()
        expired = token("ann", ttl_s=-1)
        for who, code in ((None, "unauthenticated"), ("x", "unauthenticated"), (expired, "token-expired")):
            status, problem, response = await world.call("GET", "/api/jobs", who=who)
            self.assertEqual((status, problem["code"]), (401, code))
            self.assertIn("Bearer", header(response, "www-authenticate"))


class PaceTest(SynchronousTestCase):
    """How slowly a request may come."""

    def setUp(self) -> None:
        self.clock = Clock()
        keys = SecretKeys(SECRET)
        door = Door((), tokens=Tokens(keys, self.clock.seconds), origins=Origins(), clock=self.clock)
        self.transport = StringTransport()
        self.channel: Any = DoorSite(door, self.clock).buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.channel.makeConnection(self.transport)

    def come(self, data: bytes, seconds: float) -> None:
        """``data``, byte by byte, evenly over so many seconds."""
        for position in range(len(data)):
            self.clock.advance(seconds / len(data))
            if not self.transport.disconnecting:
                self.channel.dataReceived(data[position : position + 1])

    def test_dripped_head(self) -> None:
        """A head that is dripped is cut off after a period, however many bytes have come."""
        self.come(b"GET / HTTP/1.1\r\nx: " + b"a" * 1000, 2 * IDLE_S)
        self.assertTrue(self.transport.disconnecting)

    def test_dripped_body(self) -> None:
        """So is a body; one that keeps the pace may take its time."""
        head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (10 * PACE_BYTES)
        self.come(head, IDLE_S / 2)
        for _ in range(4):
            self.clock.advance(IDLE_S * 0.4)
            self.channel.dataReceived(b"a" * PACE_BYTES)
        self.assertFalse(self.transport.disconnecting)
        self.come(b"a" * 100, 2 * IDLE_S)
        self.assertTrue(self.transport.disconnecting)

    def test_next_request(self) -> None:
        """A request that begins late on an idle connection has a whole period all the same."""
        for _ in range(3):
            self.clock.advance(IDLE_S * 0.9)
            self.come(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", IDLE_S * 0.9)
        self.assertFalse(self.transport.disconnecting)
        self.assertEqual(self.transport.value().count(b"HTTP/1.1 404"), 3)


# -- a client that can be unpleasant -----------------------------------------------------------------------------------


class Raw(Protocol):
    """A connection that sends what it likes."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[None] = Deferred()
        self._piece = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.ended.callback(None)

    def send(self, line: str, headers: list[str]) -> None:
        """The head of a request."""
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers, "", ""])
        self.transport.write(head.encode())

    def flood(self, piece: bytes) -> None:
        """Send ``piece`` as often as the socket takes it."""
        self._piece = piece
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(self._piece)

    def stopProducing(self) -> None:
        """The connection is gone."""


async def connect(world: World) -> Raw:
    """A raw connection to the notifier."""
    factory: Any = Factory.forProtocol(Raw)
    found: Raw = await TCP4ClientEndpoint(reactor, "127.0.0.1", world.port).connect(factory)
    return found
