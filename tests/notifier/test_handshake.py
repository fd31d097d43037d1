"""Opening handshakes of WebSockets, byte by byte (RFC 6455 §4)."""

from __future__ import annotations

import gc
from typing import Any, Final
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from msgd.notifier import websocket
from msgd.notifier.upgrade import take_over
from tests.notifier.world import World, WorldCase, reactor, token

BROWSER: Final = {
    "Connection": "Upgrade",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130 Safari/537.36",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Protocol": "msgd.v1",
}
"""What Chromium sends, with the key of the example in RFC 6455 §1.3."""

ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to that key, from the same example."""


class Raw(Protocol):
    """Keeps what comes."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self._waiting: list[tuple[bytes, Deferred[None]]] = []
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for one in [one for one in self._waiting if one[0] in self.data]:
            self._waiting.remove(one)
            one[1].callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)
        for _, waiting in self._waiting:
            waiting.errback(reason)

    async def until(self, what: bytes) -> None:
        """Returns when this has come."""
        if what not in self.data:
            waiting: Deferred[None] = Deferred()
            self._waiting.append((what, waiting))
            await waiting


class HandshakeCase(WorldCase):
    """A test that speaks HTTP by hand."""

    async def shake(self, world: World, headers: dict[str, str] | None = None, start: str = "GET /ws HTTP/1.1") -> Raw:
        """Send a handshake; an empty header is left out."""
        factory: Any = Factory.forProtocol(Raw)
        raw: Raw = await TCP4ClientEndpoint(reactor, "127.0.0.1", world.port).connect(factory)
        self.addCleanup(lambda: raw.ended)
        self.addCleanup(raw.transport.loseConnection)
        given = {"Host": f"127.0.0.1:{world.port}", "Authorization": f"Bearer {token()}", **BROWSER, **(headers or {})}
        lines = [start, *(f"{name}: {value}" for name, value in given.items() if value), "", ""]
        raw.transport.write("\r\n".join(lines).encode())
        return raw


class AcceptedTest(HandshakeCase):
    """Who is let in."""

    async def test_a_browser(self) -> None:
        """A browser's handshake is accepted, without the compression that it offers."""
        world = await self.world()
        raw = await self.shake(world)
        await raw.until(b'"welcome"')
        status, *headers = raw.data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        self.assertEqual(status, "HTTP/1.1 101 Switching Protocols")
        answered = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
        self.assertEqual(
            {**answered, "upgrade": answered["upgrade"].lower(), "connection": answered["connection"].lower()},
            {
                "upgrade": "websocket",
                "connection": "upgrade",
                "sec-websocket-accept": ACCEPT,
                "sec-websocket-protocol": "msgd.v1",
            },
        )

    async def test_other_offers(self) -> None:
        """Extensions that nobody knows, however written, are offers that are not taken up; of several subprotocols
        ours is taken."""
        world = await self.world()
        for headers in (
            {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=99, x-none; a=b, ;;="},
            {"Sec-WebSocket-Protocol": "mqtt, msgd.v1"},
            {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"},
        ):
            raw = await self.shake(world, headers)
            await raw.until(b'"welcome"')
            self.assertIn(ACCEPT.encode(), raw.data)
            self.assertNotIn(b"Sec-WebSocket-Extensions", raw.data)

    async def test_nothing_of_http_stays(self) -> None:
        """The request and its connection's HTTP half are gone as soon as the WebSocket stands."""
        world = await self.world()
        kept: list[ref[Any]] = []
        gone = take_over

        def watched(request: Any, protocol: Any) -> None:
            kept.extend((ref(request), ref(request.channel)))
            gone(request, protocol)

        self.patch(websocket, "take_over", watched)
        gc.disable()
        self.addCleanup(gc.enable)
        raw = await self.shake(world)
        await raw.until(b'"welcome"')
        self.assertEqual([one() for one in kept], [None, None])


class RefusedTest(HandshakeCase):
    """Who is not."""

    async def test_wrong(self) -> None:
        """What is no handshake of our version is answered in HTTP, and the connection can be used for another try."""
        world = await self.world()
        for headers, status, where in (
            ({"Upgrade": ""}, 426, "upgrade"),
            ({"Upgrade": "h2c"}, 426, "upgrade"),
            ({"Connection": "keep-alive"}, 400, "connection"),
            ({"Sec-WebSocket-Version": "8"}, 426, "sec-websocket-version"),
            ({"Sec-WebSocket-Version": ""}, 426, "sec-websocket-version"),
            ({"Sec-WebSocket-Key": ""}, 400, "sec-websocket-key"),
            ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"}, 400, "sec-websocket-key"),
            ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZ!=="}, 400, "sec-websocket-key"),
            ({"Host": ""}, 400, "host"),
            ({"Sec-WebSocket-Protocol": ""}, 400, "sec-websocket-protocol"),
            ({"Sec-WebSocket-Protocol": "mqtt"}, 400, "sec-websocket-protocol"),
        ):
            raw = await self.shake(world, headers)
            await raw.until(f'"where":"{where}"'.encode())
            self.assertEqual(raw.data.split()[1], str(status).encode(), headers)
            self.assertEqual(b"sec-websocket-version: 13" in raw.data.lower(), status == 426)
        self.assertEqual(world.doors(), [])

    async def test_methods(self) -> None:
        """Only GET and HTTP/1.1 open a WebSocket."""
        world = await self.world()
        for start, status in (
            ("HEAD /ws HTTP/1.1", b"405"),
            ("POST /ws HTTP/1.1", b"405"),
            ("GET /ws HTTP/1.0", b"400"),
        ):
            raw = await self.shake(world, {"Content-Length": "0"}, start)
            await raw.until(b"\r\n\r\n")
            self.assertEqual(raw.data.split()[1], status, start)
        self.assertEqual(world.doors(), [])
