"""A response's body line by line, without holding it whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from msgd.errors import Unavailable

AHEAD_BYTES: Final = 1024 * 1024
"""What may wait to be read before the connection is told to pause."""


class _Pieces(Protocol):
    transport: Any  # the response's own, a push producer

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended: Failure | None = None
        self._waiting: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > AHEAD_BYTES:
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def next(self) -> bytes | None:
        """The next piece; None at the end."""
        while not self._pieces:
            if self._ended is not None:
                if self._ended.check(ResponseDone, PotentialDataLoss):
                    return None
                raise Unavailable("the connection was lost in the middle of an answer") from self._ended.value
            self._waiting = Deferred()
            await self._waiting
        piece = self._pieces.popleft()
        before, self._size = self._size, self._size - len(piece)
        if before > AHEAD_BYTES >= self._size and self._ended is None:
            self.transport.resumeProducing()
        return piece


async def lines(response: IResponse) -> AsyncIterator[bytes]:
    """The lines of a body, without their line ends."""
    pieces = _Pieces()
    body: Any = response  # zope's interfaces declare methods without self
    body.deliverBody(pieces)
    rest = b""
    while (piece := await pieces.next()) is not None:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
    if rest:
        yield rest
