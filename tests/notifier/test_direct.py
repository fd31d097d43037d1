"""Direct writes over real loopback sockets: at once where the socket is idle, and always in order."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from msgd.notifier.direct import Cork, Writer
from tests.notifier.world import reactor

PIECE = b"0123456789abcdef" * 4096  # 64 KiB
PIECES = 200  # more than the buffers of both kernels' sides take


class Accepted(Protocol):
    """The server's side."""

    factory: Any
    transport: Any

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.factory.accepted.callback(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class DirectTest(TestCase):
    """One connection, whose other side is a plain blocking socket."""

    timeout = 300

    async def pair(self) -> tuple[Accepted, socket.socket]:
        factory: Any = Factory.forProtocol(Accepted)
        factory.accepted = Deferred()
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        peer = socket.create_connection(("127.0.0.1", port.getHost().port))
        peer.settimeout(5)
        self.addCleanup(peer.close)
        accepted: Accepted = await factory.accepted
        self.addCleanup(self.end, accepted)
        return accepted, peer

    def end(self, accepted: Accepted) -> Deferred[None] | None:
        if accepted.lost.called:
            return None
        accepted.transport.abortConnection()
        return accepted.lost

    async def taken(self, accepted: Accepted, peer: socket.socket, size: int) -> bytes:
        """What arrives, until that are so many bytes, or the end; the reactor runs meanwhile."""
        peer.settimeout(0)
        found = bytearray()
        while len(found) < size:
            try:
                data = peer.recv(1 << 20)
            except BlockingIOError:
                turn: Deferred[None] = Deferred()
                reactor.callLater(0, turn.callback, None)
                await turn
                continue
            if not data:
                break
            found += data
        return bytes(found)

    async def test_at_once(self) -> None:
        """What is written to an idle socket arrives without a turn of the reactor."""
        accepted, peer = await self.pair()
        writer = Writer(accepted.transport, Cork())
        writer.write(b"now")
        self.assertEqual(peer.recv(100), b"now")

    async def test_order(self) -> None:
        """Direct and queued writes, partly taken ones among them, arrive in the order of their writing."""
        accepted, peer = await self.pair()
        transport: Any = accepted.transport
        writer = Writer(transport, Cork())
        expected = bytearray()
        for number in range(PIECES):
            data = b"%06d" % number + PIECE
            expected += data
            (transport if number % 7 == 3 else writer).write(data)
        self.assertTrue(transport.dataBuffer or transport._tempDataBuffer)  # the socket was filled
        self.assertEqual(await self.taken(accepted, peer, len(expected)), expected)
        writer.write(b"and on")
        peer.settimeout(5)
        self.assertEqual(peer.recv(100), b"and on")

    async def test_pauses(self) -> None:
        """A producer is paused when the socket takes no more, and resumed when all has been taken."""
        accepted, peer = await self.pair()
        transport: Any = accepted.transport
        told: list[str] = []
        resumed: Deferred[None] = Deferred()

        class Producer:
            def pauseProducing(self) -> None:
                told.append("pause")

            def resumeProducing(self) -> None:
                told.append("resume")
                resumed.callback(None)

            def stopProducing(self) -> None:
                """Not called here."""

        transport.registerProducer(Producer(), True)
        writer = Writer(transport, Cork())
        written = 0
        while not told:
            writer.write(PIECE)
            written += len(PIECE)
        self.assertEqual(len(await self.taken(accepted, peer, written)), written)
        await resumed
        self.assertEqual(told, ["pause", "resume"])
        transport.unregisterProducer()

    async def test_gone(self) -> None:
        """A peer that has reset the connection is found by the reactor; writing goes on without an error."""
        accepted, peer = await self.pair()
        writer = Writer(accepted.transport, Cork())
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        writer.write(b"x")
        writer.write(b"y")
        await accepted.lost
        writer.write(b"z")

    async def test_cork(self) -> None:
        """What is written under the cork leaves at its release, in one piece; or before somebody else writes."""
        accepted, peer = await self.pair()
        transport: Any = accepted.transport
        cork = Cork()
        writer = Writer(transport, cork)
        cork.hold()
        writer.write(b"a")
        writer.write(b"b")
        peer.setblocking(False)
        self.assertRaises(BlockingIOError, peer.recv, 100)
        writer.flush()
        transport.write(b"c")
        writer.write(b"d")
        cork.release()
        self.assertEqual(await self.taken(accepted, peer, 4), b"abcd")


class _Memory:
    """A transport of another kind."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


class OtherTransportsTest(TestCase):
    """Whatever is no plain TCP connection."""

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(("write", "hold", "release", "flush")), st.binary(max_size=3))))
    def test_order(self, steps: list[tuple[str, bytes]]) -> None:
        """Everything goes to the transport, in its order, however often it is held back."""
        cork = Cork()
        transport = _Memory()
        writer = Writer(transport, cork)
        expected = b""
        for step, data in steps:
            if step == "write":
                writer.write(data)
                expected += data
            elif step == "flush":
                writer.flush()
            else:
                getattr(cork, step)()
            if not cork.held or step == "flush":
                self.assertEqual(transport.written, expected)
        cork.release()
        self.assertEqual(transport.written, expected)
