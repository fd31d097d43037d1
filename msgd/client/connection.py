"""One WebSocket to a msgd server, on Autobahn: opened, read, paused, left."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError

from msgd import __version__
from msgd.errors import Unavailable
from msgd.messages import json
from msgd.messages.limits import BODY_BYTES
from msgd.work.once import Once

SUBPROTOCOL: Final = "msgd.v1"

CONNECT_S: Final = 10.0
HANDSHAKE_S: Final = 10.0
PING_S: Final = 25.0
"""Between pings: below the 30 s after which the meanest proxies forget an idle connection."""

PONG_S: Final = 10.0
"""A server that does not answer a ping for so long is gone."""

CLOSE_S: Final = 1.0
"""For the closing handshake; nothing is lost by not waiting longer."""

MESSAGE_BYTES: Final = 8 * BODY_BYTES
"""The largest message is a job's snapshot: params, progress and result, each of the largest size."""

_REFUSED: Final = re.compile(r"\[(\d{3})\]")
ABNORMAL: Final = 1006
"""RFC 6455 §7.4.1: the connection ended without a close frame."""

Message = dict[str, Any]


class Connection(WebSocketClientProtocol):
    """One WebSocket. Listeners are called in the reactor thread."""

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._opened: Callable[[Connection], None] | None = None
        self._received: Callable[[Connection, bytes], None] | None = None
        self._open = False
        self._held = False
        self._left = False
        self._end: tuple[int, str] | None = None
        self._over = Once()

    def listen(self, opened: Callable[[Connection], None], received: Callable[[Connection, bytes], None]) -> None:
        """Tell when the handshake is done (at once if it is), and every message from now on."""
        self._opened, self._received = opened, received
        if self._open:
            opened(self)

    async def ended(self) -> tuple[int, str]:
        """Returns when the connection is gone: the close code, or the HTTP status of a refused handshake, and why."""
        await self._over.wait()
        assert self._end is not None
        return self._end

    def say(self, message: Message) -> None:
        """Send a message. Harmless on a connection that is closing."""
        send: Any = self.sendMessage
        send(json.encode(message))

    def hold(self, held: bool) -> None:
        """Stop or go on reading from the socket."""
        if held != self._held and not self._left and self._end is None:
            self._held = held
            (self.transport.pauseProducing if held else self.transport.resumeProducing)()

    def leave(self) -> None:
        """Close, and hear nothing more. Harmless if it is closed, or closing."""
        if self._left or self._end is not None:
            return
        self.hold(False)  # the other side's goodbye must be read
        self._left = True
        if self._open:
            self.sendClose(1000)
        else:
            self.transport.abortConnection()

    # -- Autobahn's side ----------------------------------------------------------------------------------------------

    def onOpen(self) -> None:
        self._open = True
        if self._opened is not None and not self._left:
            self._opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._received is not None and not self._left:
            self._received(self, payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        # A refused handshake is told in words only, with the HTTP status in them.
        refused = None if self._open else _REFUSED.search(reason or "")
        self._end = (int(refused[1]) if refused else code or ABNORMAL, reason or "")
        self._over.happen()


async def dial(reactor: Any, server: str, token: str, tls: Any) -> Connection:
    """A TCP connection to ``server`` (an http URL) whose handshake is under way. ``tls``: what makes it a TLS one, None
    for none. Raises Unavailable, CancelledError."""
    url = urlsplit(server)
    assert url.hostname is not None
    factory: Any = WebSocketClientFactory(
        f"{'wss' if tls else 'ws'}://{url.netloc}{url.path}/ws",
        protocols=[SUBPROTOCOL],
        useragent=f"msgd/{__version__}",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        reactor=reactor,
    )
    factory.noisy = False
    factory.protocol = Connection
    factory.setProtocolOptions(
        openHandshakeTimeout=HANDSHAKE_S,
        closeHandshakeTimeout=CLOSE_S,
        autoPingInterval=PING_S,
        autoPingTimeout=PONG_S,
        maxFramePayloadSize=MESSAGE_BYTES,
        maxMessagePayloadSize=MESSAGE_BYTES,
        tcpNoDelay=True,
    )
    endpoint: Any = HostnameEndpoint(reactor, url.hostname, url.port or (443 if tls else 80), timeout=CONNECT_S)
    if tls:
        endpoint = wrapClientTLS(tls, endpoint)
    try:
        connection: Connection = await endpoint.connect(factory)
    except ConnectingCancelledError:
        raise CancelledError from None
    except (ConnectError, DNSLookupError) as error:
        raise Unavailable(f"{server} could not be reached: {error}", where=server) from None
    return connection
