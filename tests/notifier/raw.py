"""A client that writes what it likes to the notifier's port, and reads when it likes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.notifier.world import World, reactor


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
