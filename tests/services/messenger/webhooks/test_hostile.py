"""Receivers that do not behave: each costs a bounded time and memory, and a try that tells what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from msgd.jobs.interface import State
from msgd.services.messenger.counting import retry_after_s
from msgd.services.messenger.webhooks.posting import ANSWER_BYTES
from msgd.work.network import Reach
from tests.ports import free_port
from tests.services.messenger.webhooks.receiving import WebhookCase, reactor, status
from tests.work.world import BEGIN_S


class Hostile(Protocol):
    """Answers whatever comes with what ``answer`` does to the transport."""

    transport: Any
    sent = 0

    def __init__(self, answer: Callable[[Hostile], None], lost: Callable[[Hostile], None]) -> None:
        self._answer = answer
        self._lost = lost
        self._flood: LoopingCall | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._flood is None and b"\r\n\r\n" in data:
            self._answer(self)

    def flood(self, piece: bytes) -> None:
        """Send a piece for ever, as fast as it is taken."""
        self._flood = LoopingCall(self._send, piece)
        self._flood.start(0).addErrback(lambda _: None)

    def _send(self, piece: bytes) -> None:
        if self.sent < 50 * ANSWER_BYTES:
            self.sent += len(piece)
            self.transport.write(piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._flood is not None and self._flood.running:
            self._flood.stop()
        self._lost(self)


class HostileTest(WebhookCase):
    """Receivers of every bad kind."""

    async def hostile(self, answer: Callable[[Hostile], None]) -> tuple[str, Deferred[Hostile]]:
        """The URL of such a receiver, and what fires when the first connection to it has ended."""
        lost: Deferred[Hostile] = Deferred()

        def ended(connection: Hostile) -> None:
            if not lost.called:
                lost.callback(connection)

        factory = Factory.forProtocol(lambda: Hostile(answer, ended))
        factory.noisy = False
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}/hook", lost

    async def problem(self, id_: str) -> str:
        """What the first failed try was told as."""
        event = msgspec.json.decode((await self.world.event(id_, "retrying")).data)
        return f"{event['code']}: {event['message']}"

    async def test_endless_body(self) -> None:
        """A good status counts; of an endless body a little is read, then the connection is cut."""
        await self.open()

        def answer(connection: Hostile) -> None:
            connection.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.flood(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")

        url, lost = await self.hostile(answer)
        await self.world.ended(await self.send(url))
        self.assertLess((await lost).sent, 50 * ANSWER_BYTES)

    async def test_endless_headers(self) -> None:
        """Headers without end are no answer."""
        await self.open()

        def answer(connection: Hostile) -> None:
            connection.transport.write(b"HTTP/1.1 200 OK\r\n")
            connection.flood(b"X-More: " + b"x" * 1000 + b"\r\n")

        url, lost = await self.hostile(answer)
        self.assertIn("peer", await self.problem(await self.send(url)))
        self.assertLess((await lost).sent, 50 * ANSWER_BYTES)

    async def test_never_answers(self) -> None:
        """Silence ends after the time that a try has, and so does its connection."""
        await self.open(answer_s=0.2)
        url, lost = await self.hostile(lambda connection: None)
        self.assertEqual(await self.problem(await self.send(url)), "peer: no answer within 0.2 s")
        await lost

    async def test_body_that_hangs(self) -> None:
        """A good status counts, however long the body lets wait."""
        await self.open()
        url, lost = await self.hostile(
            lambda connection: connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        )
        await self.world.ended(await self.send(url))
        await lost

    async def test_closes_early(self) -> None:
        """A connection that ends before an answer, and what is no HTTP, are tried again."""
        await self.open()
        url, _ = await self.hostile(lambda connection: connection.transport.abortConnection())
        self.assertIn("peer: ", await self.problem(await self.send(url)))
        url, _ = await self.hostile(lambda connection: connection.transport.write(b"SSH-2.0-OpenSSH\r\n\r\n"))
        self.assertIn("peer: ", await self.problem(await self.send(url)))

    async def test_nobody_there(self) -> None:
        """A port that nobody listens on is tried again."""
        await self.open()
        self.assertIn("refused", await self.problem(await self.send(f"http://127.0.0.1:{free_port()}/")))

    async def test_private_addresses(self) -> None:
        """What is not public is not dialled, however it is spelt, and the job fails at once."""
        await self.open(reach=Reach())
        port = self.receiver.url.rsplit(":")[2]
        for host in ("127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "127.1"):
            job = await self.world.ended(await self.send(f"http://{host}:{port}"), State.FAILED)
            assert job.error is not None
            self.assertEqual(job.error.code, "address-refused", host)
        self.assertEqual(self.receiver.requests, [])

    async def test_redirects(self) -> None:
        """A redirect is a failed try: nobody is sent elsewhere."""
        await self.open()
        elsewhere = await self.serve()
        self.receiver.answers = [status(307, location=elsewhere.url)]
        self.assertEqual(await self.problem(await self.send()), "refused: the receiver answered 307")
        self.assertEqual(elsewhere.requests, [])

    async def test_retry_after(self) -> None:
        """``Retry-After`` is honoured in both its forms, and never shortens the pause."""
        await self.open()
        at = datetimeToString(BEGIN_S + 1000).decode()
        for code, value, seconds in ((429, "700", 700), (503, at, 1000), (429, "1", 5), (503, "soon", 5)):
            self.receiver.answers = [status(code, retry_after=value)]
            id_ = await self.send()
            await self.world.event(id_, "retrying")
            job = await self.world.jobs.get(id_)
            assert job.not_before_ms is not None
            self.assertEqual(job.not_before_ms, BEGIN_S * 1000 + seconds * 1000)

    def test_retry_after_of_any_kind(self) -> None:
        """Whatever stands there is a number of seconds, or nothing."""
        for text in ("", "-1", "1.5", "١", "Wed, 99 Foo", "Mon, 01 Jan 0001 00:00:00 +2400", "9" * 400):
            found = retry_after_s(text, 0.0)
            self.assertTrue(found is None or found >= 0, text)
        self.assertEqual(retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 0.0), 60)
        self.assertEqual(retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 90.0), 0)
