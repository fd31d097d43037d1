"""A body that is taken as it comes: no more of it is in memory than waits to be taken, and that is bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

from twisted.internet.defer import Deferred

from msgd.errors import MsgdError

AHEAD_BYTES: Final = 512 * 1024
"""What may wait to be taken; beyond this the socket is not read. Two trips to the disk's threads."""


class IncomingBody:
    """The body of one request, between its connection and its endpoint."""

    def __init__(self, hold: Callable[[], None], go_on: Callable[[], None]) -> None:
        """``hold`` and ``go_on`` stop the reading of the connection, and resume it."""
        self._hold = hold
        self._go_on = go_on
        self._pieces: list[bytes] = []
        self._size = 0
        self._held = False
        self._ended = False
        self._error: MsgdError | None = None
        self._waiting: Deferred[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether all of it has come."""
        return self._ended

    # -- the connection's side ----------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """A piece has come."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > AHEAD_BYTES and not self._held:
            self._held = True
            self._hold()
        self._wake()

    def end(self) -> None:
        """All has come."""
        self._ended = True
        self._wake()

    def fail(self, error: MsgdError) -> None:
        """Nothing of it is wanted any more: whoever takes it is told why."""
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    # -- the endpoint's side ------------------------------------------------------------------------------------------

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What has come since the last one, until all has been taken. Raises what the body failed with."""
        while True:
            if self._error is not None:
                raise self._error
            if self._pieces:
                yield self._take()
            elif self._ended:
                return
            else:
                await self._more()

    async def swallow(self, most: int) -> None:
        """Throw away what still comes, up to ``most`` bytes, so that a client that writes before it reads gets to read
        its answer."""
        while most > 0 and not self._ended:
            most -= len(self._take())
            if not self._ended:
                await self._more()
        self._take()

    def _take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._held:
            self._held = False
            self._go_on()
        return data

    async def _more(self) -> None:
        if not self._pieces:
            self._waiting = Deferred()
            await self._waiting
