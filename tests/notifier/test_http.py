"""The door: what is said of any request, through real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from msgd.config.settings import Limits
from msgd.notifier.admission import Admission
from msgd.notifier.allowances import Allowances
from msgd.notifier.auth.entry import Entry
from msgd.notifier.auth.keys_file import SecretKeys
from msgd.notifier.auth.tokens import Tokens
from msgd.notifier.http import Door, DoorSite
from msgd.notifier.limits import IDLE_S, PACE_BYTES, REQUEST_BYTES
from msgd.notifier.origins import Origins
from msgd.notifier.proxies import Proxies
from msgd.notifier.site import DashboardSite
from tests.notifier.raw import connect
from tests.notifier.world import SECRET, WorldCase, header, token


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
        admission = Admission(0, self.clock, lambda: 0.0)
        allowances = Allowances(Limits(), self.clock.seconds)
        door = Door(
            (),
            nothing=DashboardSite().nothing,
            entry=Entry(Tokens(keys, self.clock.seconds), allowances),
            allowances=allowances,
            origins=Origins(),
            proxies=Proxies(),
            admission=admission,
            clock=self.clock,
        )
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
