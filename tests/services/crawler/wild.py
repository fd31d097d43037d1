"""A server on loopback that answers each path with the bytes it is given, whatever HTTP says about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall

reactor: Any = _reactor

FLOOD: Final = 64 * 1024


class Wild:
    """What one connection answers with; a subclass of nothing, so that a test can do with the transport as it likes."""

    def __init__(self, connection: Connection, path: str, headers: Mapping[str, str]) -> None:
        self.connection = connection
        self.path = path
        self.headers = headers

    def write(self, data: bytes) -> Wild:
        self.connection.transport.write(data)
        return self

    def close(self) -> Wild:
        self.connection.transport.loseConnection()
        return self

    def reset(self) -> Wild:
        self.connection.transport.abortConnection()
        return self

    def for_ever(self, piece: bytes, *, times: int = -1) -> Wild:
        """Send ``piece`` again and again, as fast as the other side takes it (or so many times)."""
        self.connection.flood(piece, times)
        return self

    def drip(self, piece: bytes) -> Wild:
        """Send ``piece`` now and every tenth of a second."""
        self.connection.drip(piece)
        return self

    def answer(
        self, body: bytes = b"", *, status: str = "200 OK", content_type: str = "text/html", **headers: str
    ) -> None:
        """A well-formed answer."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.write("\r\n".join([*lines, "", ""]).encode() + body)


Answer = Callable[[Wild], object]


class Connection(Protocol):
    """Reads requests, hands them on."""

    transport: Any

    def __init__(self, server: WildServer) -> None:
        self._server = server
        self._buffer = b""
        self._dripping: LoopingCall | None = None

    def connectionMade(self) -> None:
        self._server.connections += 1
        self._server.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            request, *lines = head.decode("latin-1").split("\r\n")
            path = request.split(" ")[1]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self._server.requests[path] += 1
            self._server.pages.get(path, _missing)(Wild(self, path, headers))

    def flood(self, piece: bytes, times: int) -> None:
        self.transport.registerProducer(_Flood(self.transport, piece, times), False)

    def drip(self, piece: bytes) -> None:
        self._dripping = LoopingCall(self.transport.write, piece)
        self._dripping.start(0.1)

    def connectionLost(self, reason: object = None) -> None:
        self._server.open.discard(self)
        if self._dripping is not None and self._dripping.running:
            self._dripping.stop()


class _Flood:
    def __init__(self, transport: Any, piece: bytes, times: int) -> None:
        self._transport = transport
        self._piece = piece
        self._left = times

    def resumeProducing(self) -> None:
        if self._left:
            self._left -= 1
            self._transport.write(self._piece)
        else:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._left = 0


def _missing(wild: Wild) -> None:
    wild.answer(b"no such page", status="404 Not Found")


class WildServer:
    """Answers ``pages`` by path; 404 for the rest. Counts requests and connections."""

    def __init__(self, *, tls: Any = None, **pages: Answer) -> None:
        """``tls``: a context factory, to serve https."""
        self._tls = tls
        self.pages: dict[str, Answer] = {f"/{path}": page for path, page in pages.items()}
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.open: set[Connection] = set()
        self._port: Any = None

    @property
    def url(self) -> str:
        """Without the last slash."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port.getHost().port}"

    async def start(self) -> None:
        server = self

        class Connections(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Connection:
                return Connection(server)

        endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if self._tls is not None:
            endpoint = SSL4ServerEndpoint(reactor, 0, self._tls, interface="127.0.0.1")
        self._port = await endpoint.listen(Connections())

    async def stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        for connection in list(self.open):
            connection.transport.abortConnection()
