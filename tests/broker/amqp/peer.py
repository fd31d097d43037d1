"""A broker for the protocol to talk to without a socket: pamqp writes its frames and reads ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pamqp import commands, frame, header
from pamqp.body import ContentBody
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from msgd.broker.amqp.channel import Channel
from msgd.broker.amqp.frames import PREAMBLE
from msgd.broker.amqp.protocol import AmqpProtocol


class CountingTransport(StringTransport):
    """Counts the writes; an aborted connection is lost at once, as far as the protocol is concerned."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.half_closed = False

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def loseWriteConnection(self) -> None:
        self.half_closed = True


class Peer:
    """One connection and the server's end of it."""

    def __init__(self, *, heartbeat: int = 0) -> None:
        self.clock = Clock()
        self.transport = CountingTransport()
        clock: Any = self.clock  # Twisted's own, which mypy takes for no Clock of ours
        self.protocol = AmqpProtocol(clock, name="tests", vhost="/shop", heartbeat=heartbeat)
        self.protocol.makeConnection(self.transport)

    def written(self) -> list[Any]:
        """What the client has written by the end of this turn, as pamqp's objects; the preamble left out."""
        self.clock.advance(0)
        data = self.transport.value().removeprefix(PREAMBLE)
        self.transport.clear()
        return list(_objects(data))

    def send(self, *methods: Any, channel: int = 1) -> None:
        """The server sends methods on a channel."""
        self.protocol.dataReceived(b"".join(frame.marshal(method, channel) for method in methods))

    def deliver(self, tag: int, body: bytes = b"{}", channel: int = 1) -> None:
        """The server sends a ``basic.deliver``."""
        self.send(commands.Basic.Deliver("ctag", tag, False, "exchange", "key"), channel=channel)
        self.content(body, channel=channel)

    def content(self, body: bytes, channel: int = 1, **properties: Any) -> None:
        """The server sends a content header and body."""
        self.send(
            header.ContentHeader(0, len(body), commands.Basic.Properties(**properties)),
            ContentBody(body),
            channel=channel,
        )

    def log_in(self, *, frame_max: int = 131_072, heartbeat: int = 0) -> list[Any]:
        """Play the server's part of a log-in; returns what the client said."""
        opened = Deferred.fromCoroutine(self.protocol.open("user", "sesame"))
        said = self.written()
        start = commands.Connection.Start(0, 9, {"product": "RabbitMQ", "version": "3.13.1"}, "PLAIN", "en_US")
        self.send(start, channel=0)
        said += self.written()
        self.send(commands.Connection.Tune(100, frame_max, heartbeat), channel=0)
        said += self.written()
        self.send(commands.Connection.OpenOk(), channel=0)
        assert opened.called
        opened.addErrback(lambda failure: failure.raiseException())
        return said

    def open_channel(self) -> Channel:
        """A channel that the server has opened."""
        opening: Deferred[Channel] = Deferred.fromCoroutine(self.protocol.open_channel())
        number = max(self.protocol.channels)
        self.written()
        self.send(commands.Channel.OpenOk(), channel=number)
        found: list[Channel] = []
        opening.addCallback(found.append)
        return found[0]

    def lose(self) -> None:
        """The connection is lost."""
        self.protocol.connectionLost(Failure(ConnectionLost("unplugged")))


def _objects(data: bytes) -> Iterator[Any]:
    while data:
        consumed, _channel, one = frame.unmarshal(data)
        yield one
        data = data[consumed:]
