"""What waits for one connection's socket: bounded, so that a client that does not read costs no more than this."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred, succeed

from msgd.notifier.limits import BUFFER_BYTES


class Backlog:
    """Counts what is written while the socket is full. Told by a push producer, asked by an outlet."""

    def __init__(self) -> None:
        self.full = False  # the transport keeps what it is given
        self._bytes = 0  # written since then
        self._drained: list[Deferred[None]] = []

    def pause(self) -> None:
        """The socket takes no more."""
        self.full = True

    def resume(self) -> None:
        """Everything has been written."""
        self.full = False
        self._bytes = 0
        drained, self._drained = self._drained, []
        for one in drained:
            one.callback(None)

    def end(self) -> None:
        """The connection is gone: who waits for it is cancelled."""
        drained, self._drained = self._drained, []
        for one in drained:
            one.cancel()

    def drained(self) -> Deferred[None]:
        """Fires when nothing waits (at once if so). Cancel it to stop waiting."""
        if not self.full:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda one: self._drained.remove(one) if one in self._drained else None)
        self._drained.append(waiting)
        return waiting

    @property
    def room(self) -> int:
        """How many bytes more may wait."""
        return BUFFER_BYTES - self._bytes

    def fitting(self, pieces: Iterable[bytes]) -> list[bytes]:
        """The first of these that there is room for. One that is larger than all the room goes out alone."""
        room = self.room
        found: list[bytes] = []
        size = 0
        for piece in pieces:
            if size + len(piece) > room and (found or self._bytes):
                break
            found.append(piece)
            size += len(piece)
        return found

    def wrote(self, size: int) -> None:
        """So many bytes have been given to the transport."""
        if self.full:
            self._bytes += size
