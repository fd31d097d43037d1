"""What stands between a client and its notifier, or in its place: lines that break, servers that misbehave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

reactor: Any = _reactor


class Line:
    """A TCP line to a server, with a number of its own, which can be cut and refused."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._pairs: list[_End] = []
        self._port: Any = None
        self.calls = 0
        self.bytes = 0  # from the server to the client

    async def open(self, port: int = 0) -> None:
        factory: Any = Factory.forProtocol(_End)
        factory.line = self
        factory.noisy = False
        self._port = reactor.listenTCP(port, factory, interface="127.0.0.1")

    @property
    def port(self) -> int:
        return int(self._port.getHost().port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def standing(self) -> int:
        """How many connections there are just now."""
        return len(self._pairs)

    def cut(self) -> None:
        """Break every connection, without a goodbye."""
        for end in list(self._pairs):
            end.transport.abortConnection()

    async def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        gone = [end.gone for end in self._pairs]
        self.cut()
        for one in gone:
            await one


class _End(Protocol):
    """The client's end of a pair."""

    factory: Any
    transport: Any

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()
        self._early: list[bytes] = []
        self._far: Any = None
        self._lost = False

    def connectionMade(self) -> None:
        line = self.factory.line
        line.calls += 1
        line._pairs.append(self)
        self.transport.pauseProducing()
        far: Any = Factory.forProtocol(lambda: _Far(self))
        connecting = TCP4ClientEndpoint(reactor, "127.0.0.1", line._target).connect(far)
        connecting.addErrback(lambda _: self.transport.abortConnection())

    def joined(self, far: _Far) -> None:
        self._far = far
        if self._lost:
            far.transport.abortConnection()
            return
        far.transport.registerProducer(self.transport, True)
        self.transport.registerProducer(far.transport, True)
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self._far.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._lost = True
        self.factory.line._pairs.remove(self)
        if self._far is not None:
            self._far.transport.abortConnection()
        self.gone.callback(None)


class _Far(Protocol):
    """The server's end of a pair."""

    transport: Any

    def __init__(self, near: _End) -> None:
        self._near = near

    def connectionMade(self) -> None:
        self._near.joined(self)

    def dataReceived(self, data: bytes) -> None:
        self._near.factory.line.bytes += len(data)
        self._near.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._near.transport.loseConnection()


class Scripted:
    """A WebSocket server that says what a test has it say. ``on_operation(connection, operation)`` answers."""

    def __init__(self, on_operation: Callable[[Any, dict[str, Any]], None]) -> None:
        self.operations: list[dict[str, Any]] = []
        self._answer = on_operation
        self._port: Any = None
        self._gone: list[Deferred[None]] = []

    async def open(self) -> None:
        factory: Any = WebSocketServerFactory(protocols=["msgd.v1"], reactor=reactor)
        factory.protocol = _Connection
        factory.script = self
        factory.noisy = False
        factory.setProtocolOptions(closeHandshakeTimeout=1)
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.getHost().port}"

    def heard(self, connection: Any, operation: dict[str, Any]) -> None:
        self.operations.append(operation)
        self._answer(connection, operation)

    async def close(self) -> None:
        await self._port.stopListening()
        for gone in self._gone:
            await gone


class _Connection(WebSocketServerProtocol):
    factory: Any

    def onConnect(self, request: Any) -> str:
        return "msgd.v1"

    def onOpen(self) -> None:
        self.gone: Deferred[None] = Deferred()
        self.factory.script._gone.append(self.gone)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.script.heard(self, msgspec.json.decode(payload))

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        if self.factory.script._gone:
            self.gone.callback(None)

    def say(self, op: str, **fields: Any) -> None:
        send: Any = self.sendMessage
        send(msgspec.json.encode({"op": op, **fields}))


class Blunt:
    """A TCP server that sends the same bytes whatever it is asked, and then closes."""

    def __init__(self, answer: bytes, *, head: bytes = b"", times: int = 1) -> None:
        """``times``: how often ``answer`` is sent after ``head``, as fast as the client reads."""
        self.answer = answer
        self.head = head
        self.times = times
        self.sent = 0
        self._port: Any = None
        self._gone: list[Deferred[None]] = []

    async def open(self) -> None:
        factory: Any = Factory.forProtocol(_Answering)
        factory.blunt = self
        factory.noisy = False
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.getHost().port}"

    async def close(self) -> None:
        await self._port.stopListening()
        for gone in self._gone:
            await gone


class _Answering(Protocol):
    factory: Any
    transport: Any
    _begun = False

    def connectionMade(self) -> None:
        self.gone: Deferred[None] = Deferred()
        self.factory.blunt._gone.append(self.gone)

    def dataReceived(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self.transport.write(self.factory.blunt.head)
            self.transport.registerProducer(self, False)  # pulled: resumeProducing for each piece

    def resumeProducing(self) -> None:
        blunt = self.factory.blunt
        blunt.sent += 1
        self.transport.write(blunt.answer)
        if blunt.sent >= blunt.times:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        """The client has gone."""

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)
