"""One GET, against servers on loopback that do what servers do."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.ssl import Certificate, PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase
from twisted.web.client import BrowserLikePolicyForHTTPS
from zope.interface import implementer

from msgd.services.crawler import fetch as fetching
from msgd.services.crawler.fetch import DRAINED_BYTES, Fetcher, FetchError
from msgd.work.network import GuardedEndpoints, Reach, parse_networks
from tests.ports import free_port
from tests.servers.certificates import Authority
from tests.services.crawler.wild import FLOOD, Answer, Wild, WildServer, reactor

MIB = 1024 * 1024


class FetchCase(TestCase):
    """A server, and a fetcher that may reach it."""

    patience_s = 30.0
    """For an answer, and for its body; less where a test waits for its end."""

    async def begin(self, *allow: str, **pages: Answer) -> WildServer:
        """``allow``: the networks that may be reached; loopback if none is named."""
        self.server = server = WildServer(**pages)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        self.fetcher = Fetcher(
            reactor,
            GuardedEndpoints(reactor, Reach(parse_networks(allow or ["127.0.0.0/8"]))),
            contact="ops@a.example",
            answer_s=self.patience_s,
            body_s=self.patience_s,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(self.fetcher.stop()))
        return self.server

    async def fetch(self, path: str, **options: Any) -> fetching.Answer:
        return await self.fetcher.fetch(f"{self.server.url}/{path}", **options)

    async def refused(self, path: str, **options: Any) -> FetchError:
        try:
            answer = await self.fetch(path, **options)
        except FetchError as error:
            return error
        raise AssertionError(f"an answer came: {answer.status}, {answer.size} bytes")


class AnswerTests(FetchCase):
    async def test_page(self) -> None:
        """An answer has its status, its headers, its body as sent, and how long it took."""
        seen: list[Wild] = []

        def page(wild: Wild) -> None:
            seen.append(wild)
            wild.answer(b"hello", content_type="text/html; charset=utf-8", X_Robots_Tag="nofollow", Retry_After="7")

        await self.begin(page=page)
        answer = await self.fetch("page")
        self.assertEqual((answer.status, b"".join(answer.chunks), answer.size), (200, b"hello", 5))
        self.assertEqual((answer.content_type, answer.robots_tag), ("text/html; charset=utf-8", "nofollow"))
        self.assertEqual(answer.retry_after_s, 7.0)
        self.assertTrue(0 < answer.answered_s <= answer.took_s < self.patience_s)
        self.assertIn("msgd/", seen[0].headers["user-agent"])
        self.assertIn("ops@a.example", seen[0].headers["user-agent"])
        self.assertEqual(seen[0].headers["accept-encoding"], "gzip, deflate")
        self.assertNotIn("cookie", seen[0].headers)

    async def test_keeps_connections(self) -> None:
        """Connections are kept and used again, also after a redirect and a missing page, whose bodies are not kept."""
        server = await self.begin(
            page=lambda wild: wild.answer(b"x"),
            moved=lambda wild: wild.answer(b"go there", status="301 Moved", Location="/page"),
        )
        moved = await self.fetch("moved")
        self.assertEqual((moved.status, moved.location, moved.chunks), (301, "/page", []))
        self.assertEqual((await self.fetch("nowhere")).status, 404)
        await self.fetch("page")
        self.assertEqual(server.connections, 1)

    async def test_long_error_page(self) -> None:
        """The body of an error page is not read to its end."""
        await self.begin(
            page=lambda wild: wild.write(b"HTTP/1.1 500 Oh\r\n\r\n").for_ever(b"x" * FLOOD),
        )
        answer = await self.fetch("page")
        self.assertEqual((answer.status, answer.size), (500, DRAINED_BYTES))

    async def test_without_length(self) -> None:
        """A body without a length ends with the connection."""
        await self.begin(page=lambda wild: wild.write(b"HTTP/1.0 200 OK\r\n\r\nold style").close())
        self.assertEqual(b"".join((await self.fetch("page")).chunks), b"old style")

    async def test_chunked(self) -> None:
        """A chunked body is put together."""
        body = b"4\r\nwiki\r\n5;ext=1\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"
        await self.begin(page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
        self.assertEqual(b"".join((await self.fetch("page")).chunks), b"wikipedia")

    async def test_retry_after_date(self) -> None:
        """Retry-After may be a date, also one that has passed; nonsense is none."""
        dates = iter(["Thu, 01 Jan 2026 00:00:30 GMT", "Wed, 31 Dec 2025 00:00:00 GMT", "soon", "-5"])
        await self.begin(page=lambda wild: wild.answer(status="503 Busy", Retry_After=next(dates)))
        found = [(await self.fetch("page")).retry_after_s for _ in range(4)]
        self.assertEqual(found, [30.0, 0.0, None, None])

    async def test_reused_connection_gone(self) -> None:
        """A kept connection that the server has closed meanwhile costs a new one, not an error."""
        server = await self.begin(page=lambda wild: wild.answer(b"x"))
        await self.fetch("page")
        server.pages["/page"] = lambda wild: wild.reset() if server.requests["/page"] == 2 else wild.answer(b"y")
        self.assertEqual(b"".join((await self.fetch("page")).chunks), b"y")


class LimitTests(FetchCase):
    async def test_announced_length(self) -> None:
        """A body that says it is too long is not even begun; the connection is given up."""
        await self.begin(
            page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\nContent-Length: 52428800\r\n\r\n" + b"x" * FLOOD)
        )
        error = await self.refused("page", limit=10 * MIB)
        self.assertEqual((str(error), error.retryable, error.status), ("larger than 10 MiB", False, 200))

    async def test_fifty_megabytes(self) -> None:
        """A body that turns out too long ends at the limit."""
        await self.begin(page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\n\r\n").for_ever(b"x" * FLOOD, times=800))
        error = await self.refused("page", limit=2 * MIB)
        self.assertEqual(str(error), "larger than 2 MiB")

    async def test_cut(self) -> None:
        """Where a beginning is enough, what is longer is cut at the limit."""
        await self.begin(page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\n\r\n").for_ever(b"x" * FLOOD))
        answer = await self.fetch("page", limit=100_000, cut=True)
        self.assertEqual((answer.size, len(b"".join(answer.chunks)), answer.cut), (100_000, 100_000, True))

    async def test_endless(self) -> None:
        """A body that drips for ever ends with its time."""
        self.patience_s = 0.5
        await self.begin(page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\n\r\n").drip(b"<p>more"))
        error = await self.refused("page")
        self.assertEqual((str(error), error.retryable), ("not ended within 0.5 seconds", False))

    async def test_silent(self) -> None:
        """A server that never answers is given up in time, perhaps for later."""
        self.patience_s = 0.5
        await self.begin(page=lambda wild: None)
        error = await self.refused("page")
        self.assertEqual((str(error), error.retryable), ("no answer within 0.5 seconds", True))

    async def test_stood_still(self) -> None:
        """A timer that is late because this process stood still gives the server its time again, once it runs."""
        self.patience_s = 0.5
        server = await self.begin(page=lambda wild: None)
        self.fetcher.clock = hand = Clock()
        refused = Deferred.fromCoroutine(self.refused("page"))
        while not server.requests["/page"]:
            await _turn()
        hand.advance(3600)
        self.assertNoResult(refused)
        hand.advance(0.5)
        self.assertEqual(str(await refused), "no answer within 0.5 seconds")

    async def test_slow_headers(self) -> None:
        """Headers that drip for ever end with their time."""
        self.patience_s = 0.5
        await self.begin(page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\n").drip(b"X-More: x\r\n"))
        self.assertEqual(str(await self.refused("page")), "no answer within 0.5 seconds")

    async def test_flood_of_headers(self) -> None:
        """Headers without end are cut off by their size before they fill the memory."""
        server = await self.begin(
            page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\n").for_ever(b"X-More: abcdefgh\r\n" * 1000)
        )
        self.assertIn("more than 64 KiB", str(await self.refused("page")))
        while server.open:
            await _turn()

    async def test_unwanted_type(self) -> None:
        """What cannot be searched is not read."""
        await self.begin(page=lambda wild: wild.answer(b"x" * 1000, content_type="image/png"))
        error = await self.refused("page", wants=lambda content_type: content_type.startswith("text/"))
        self.assertEqual((str(error), error.status), ("'image/png' is not searched", 200))


class BrokenTests(FetchCase):
    async def test_broken_off(self) -> None:
        """A body that ends before its length, or within a chunk, has broken off."""
        server = await self.begin()
        for head in (b"Content-Length: 1000\r\n\r\nonly this", b"Transfer-Encoding: chunked\r\n\r\n5\r\nonl"):
            server.pages["/page"] = partial(_say_and_close, b"HTTP/1.1 200 OK\r\n" + head)
            error = await self.refused("page")
            self.assertIn("broke off after", str(error))
            self.assertTrue(error.retryable)

    async def test_bad_chunk(self) -> None:
        """A chunk whose length is no number breaks the body off."""
        await self.begin(
            page=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot-hex\r\nx")
        )
        self.assertIn("broke off", str(await self.refused("page")))

    async def test_no_http(self) -> None:
        """What does not speak HTTP gives no answer."""
        server = await self.begin()
        for said in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"",
        ):
            server.pages["/page"] = partial(_say_and_close, said)
            self.assertEqual((await self.refused("page")).status, 0)

    async def test_connection_refused(self) -> None:
        """A port that nobody listens on is an error that may pass."""
        await self.begin()
        with self.assertRaises(FetchError) as caught:
            await self.fetcher.fetch(f"http://127.0.0.1:{free_port()}/x")
        self.assertEqual((str(caught.exception), caught.exception.retryable), ("connection refused", True))

    async def test_private_address(self) -> None:
        """An address that may not be reached is refused, whatever it is called."""
        server = await self.begin("192.0.2.0/24", page=lambda wild: wild.answer(b"secret"))
        port = server.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"):
            with self.assertRaises(FetchError) as caught:
                await self.fetcher.fetch(f"http://{host}:{port}/page")
            self.assertEqual((caught.exception.code, caught.exception.retryable), ("address-refused", False))
        self.assertEqual(server.requests, {})

    async def test_bad_host(self) -> None:
        """A host that no name can be is an error, not an accident."""
        await self.begin()
        for host in ("a..b", "x" * 70, "xn--a"):
            with self.assertRaises(FetchError):
                await self.fetcher.fetch(f"http://{host}/")

    async def test_cancelled(self) -> None:
        """A fetch that is cancelled hangs up, while it waits for the answer and while it reads the body."""
        server = await self.begin(
            silent=lambda wild: None,
            endless=lambda wild: wild.write(b"HTTP/1.1 200 OK\r\n\r\n").drip(b"x"),
        )
        for path in ("silent", "endless"):
            under_way = Deferred.fromCoroutine(self.fetch(path))
            while not server.requests[f"/{path}"]:
                await _turn()
            for _ in range(20):
                await _turn()
            under_way.cancel()
            with self.assertRaises(CancelledError):
                await under_way
        while server.open:
            await _turn()


@implementer(IHostnameResolver)
class Silence:
    """A resolver that never finds an address."""

    def resolveHostName(self, receiver: Any, hostName: str, **options: Any) -> None:
        """Begin, and leave it at that."""


class LookupTests(TestCase):
    """What becomes of a fetch while the host is looked up."""

    def fetching(self) -> tuple[MemoryReactorClock, Deferred[fetching.Answer]]:
        memory: Any = MemoryReactorClock()
        memory.nameResolver = Silence()
        endpoints = GuardedEndpoints(memory, Reach(()))
        return memory, Fetcher(memory, endpoints, answer_s=5.0).fetch("http://a.example/")

    def test_cancelled(self) -> None:
        """It is cancelled, and not told that there is no such host, which would be for good."""
        _, under_way = self.fetching()
        under_way.cancel()
        self.failureResultOf(under_way, CancelledError)

    def test_late(self) -> None:
        """A lookup that takes too long is an answer that does not come."""
        memory, under_way = self.fetching()
        memory.advance(5)
        self.assertEqual(str(self.failureResultOf(under_way, FetchError).value), "no answer within 5 seconds")


class TlsTests(TestCase):
    """https, with certificates of a CA that is made for the test."""

    async def begin(self, *names: str) -> WildServer:
        folder = self._folder()
        self.authority = Authority("test CA")
        self.authority.issue(folder / "certificate", folder / "key", *names)
        self.authority.write_certificate(folder / "authority")
        pem = (folder / "certificate").read_bytes() + (folder / "key").read_bytes()
        context = PrivateCertificate.loadPEM(pem).options()
        self.trust = BrowserLikePolicyForHTTPS(Certificate.loadPEM((folder / "authority").read_bytes()))
        server = WildServer(tls=context, page=lambda wild: wild.answer(b"secret"))
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    def _folder(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        return folder

    def fetcher(self, tls: Any) -> Fetcher:
        endpoints = GuardedEndpoints(reactor, Reach(parse_networks(["127.0.0.0/8"])), tls=tls)
        fetcher = Fetcher(reactor, endpoints, answer_s=5.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(fetcher.stop()))
        return fetcher

    async def test_trusted(self) -> None:
        """A page comes over TLS, and the connection is kept."""
        server = await self.begin("127.0.0.1")
        fetcher = self.fetcher(self.trust)
        for _ in range(2):
            self.assertEqual((await fetcher.fetch(f"{server.url}/page")).chunks, [b"secret"])
        self.assertEqual(server.connections, 1)

    async def refused(self, server: WildServer, tls: Any) -> str:
        with self.assertRaises(FetchError) as caught:
            await self.fetcher(tls).fetch(f"{server.url}/page")
        self.assertFalse(caught.exception.retryable)
        self.assertEqual(server.requests, {})
        return str(caught.exception)

    async def test_not_trusted(self) -> None:
        """A certificate of nobody known is an error that says so, and no page is asked for."""
        self.assertEqual(await self.refused(await self.begin("127.0.0.1"), None), "TLS: certificate verify failed")

    async def test_other_host(self) -> None:
        """So is one of another host."""
        server = await self.begin("other.example")
        self.assertEqual(await self.refused(server, self.trust), "TLS: the certificate is for another host")


def _say_and_close(said: bytes, wild: Wild) -> None:
    wild.write(said)
    wild.close()


def _turn() -> Deferred[None]:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned
