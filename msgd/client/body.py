"""A response's body piece by piece or line by line, without holding it whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from msgd.errors import Unavailable

AHEAD_BYTES: Final = 1024 * 1024
"""What may wait to be read before the connection is told to pause."""

STALL_S: Final = 60.0
"""A server that sends nothing for so long in the middle of an answer is given up."""


class _Arriving(Protocol):
    transport: Any  # the response's own, a push producer

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._waiting: Deferred[None] | None = None
        self.ended: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > AHEAD_BYTES:
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def next(self) -> bytes | None:
        """The next piece; None at the end. Raises Unavailable if it does not come."""
        while not self._pieces:
            if self.ended is not None:
                if self.ended.check(ResponseDone, PotentialDataLoss):
                    return None
                raise Unavailable("the connection was lost in the middle of an answer") from self.ended.value
            self._waiting = Deferred()
            self._waiting.addTimeout(STALL_S, self._clock)
            try:
                await self._waiting
            except TimedOut:
                raise Unavailable(f"the server stopped in the middle of an answer, {STALL_S:g} s ago") from None
        piece = self._pieces.popleft()
        before, self._size = self._size, self._size - len(piece)
        if before > AHEAD_BYTES >= self._size and self.ended is None:
            self.transport.resumeProducing()
        return piece


async def pieces(response: IResponse, clock: Any) -> AsyncIterator[bytes]:
    """The body as it arrives, never further ahead of its reader than ``AHEAD_BYTES`` and one read of the socket.

    A reader that leaves early closes the connection. Raises Unavailable if the body breaks off or stalls.
    """
    arriving = _Arriving(clock)
    body: Any = response  # zope's interfaces declare methods without self
    body.deliverBody(arriving)
    try:
        while (piece := await arriving.next()) is not None:
            yield piece
    finally:
        if arriving.ended is None:
            arriving.transport.loseConnection()


async def lines(response: IResponse, clock: Any) -> AsyncIterator[bytes]:
    """The lines of a body, without their line ends; empty ones too."""
    rest = b""
    async for piece in pieces(response, clock):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


async def whole(response: IResponse, clock: Any) -> bytes:
    """All of a body."""
    return b"".join([piece async for piece in pieces(response, clock)])
