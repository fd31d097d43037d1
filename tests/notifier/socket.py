"""A WebSocket client for tests: says what it is told, keeps what it hears."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.notifier.world import reactor, token

SUBPROTOCOL: Final = "msgd.v1"

PATIENCE_S: Final = 60.0
"""For a handshake, and for the end of a connection that the server closes; Autobahn's own 5 s and 1 s are less than a
busy machine may take."""


class _Protocol(WebSocketClientProtocol):
    factory: Any
    transport: Any

    def onOpen(self) -> None:
        self.factory.client.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.client.heard(msgspec.json.decode(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.client.closed(code, reason or "")


class Doorway(Protocol):
    """Whatever has a notifier's port."""

    @property
    def port(self) -> int: ...


class Client:
    """One connection."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.messages: list[dict[str, Any]] = []
        self._unread: deque[dict[str, Any]] = deque()
        self._waiting: Deferred[None] | None = None
        self.ended: Deferred[tuple[int | None, str]] = Deferred()
        self._opened: Deferred[None] = Deferred()

    async def connect(
        self,
        world: Doorway,
        *,
        who: str | None = "",
        headers: dict[str, str] | None = None,
        subprotocol: str = SUBPROTOCOL,
    ) -> Client:
        """Open the connection; ``who`` None: without a token. If the handshake is refused ``protocol`` stays None."""
        given = dict(headers or {})
        if who is not None:
            given["Authorization"] = f"Bearer {who or token()}"
        factory: Any = WebSocketClientFactory(
            f"ws://127.0.0.1:{world.port}/ws", protocols=[subprotocol], headers=given, reactor=reactor
        )
        factory.protocol = _Protocol
        factory.client = self
        factory.setProtocolOptions(openHandshakeTimeout=PATIENCE_S, serverConnectionDropTimeout=PATIENCE_S)
        await TCP4ClientEndpoint(reactor, "127.0.0.1", world.port).connect(factory)
        await self._opened
        return self

    def opened(self, protocol: Any) -> None:
        self.protocol = protocol
        self._opened.callback(None)

    def heard(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        self._unread.append(message)
        self._wake()

    def closed(self, code: int | None, reason: str) -> None:
        if not self._opened.called:
            self._opened.callback(None)
        self.ended.callback((code, reason))
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def say(self, op: str, **fields: Any) -> None:
        """Send an operation."""
        self.raw(msgspec.json.encode({"op": op, **fields}))

    def raw(self, payload: bytes, *, binary: bool = False) -> None:
        """Send a message as it is."""
        self.protocol.sendMessage(payload, binary)

    async def next(self, wanted: str | Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message with this ``op`` (or that is as wanted); those before it are skipped."""
        while True:
            while self._unread:
                message = self._unread.popleft()
                if message["op"] == wanted if isinstance(wanted, str) else wanted(message):
                    return message
            if self.ended.called:
                raise AssertionError(f"the connection has ended; it had said {self.messages[-3:]}")
            self._waiting = Deferred()
            await self._waiting

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next ``count`` events."""
        return [await self.next("event") for _ in range(count)]

    async def subscribe(self, topic: str, since: str | None = None) -> dict[str, Any]:
        """Subscribe; returns the answer, ``subscribed`` or ``error``."""
        self.say("subscribe", topic=topic, ref=topic, **({} if since is None else {"since": since}))
        return await self.next(lambda message: message.get("ref") == topic)

    async def answer(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send an operation and return its answer."""
        ref = len(self.messages) + 1000
        self.say(op, ref=ref, **fields)
        return await self.next(lambda message: message.get("ref") == ref)

    async def close(self) -> None:
        """Close properly."""
        if self.open:
            self.protocol.sendClose(1000)
        if not self.ended.called:
            await self.ended

    @property
    def open(self) -> bool:
        """Whether something can be sent."""
        return self.protocol is not None and self.protocol.state == self.protocol.STATE_OPEN
