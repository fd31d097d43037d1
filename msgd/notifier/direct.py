"""Writing to sockets at once, and not a turn of the reactor later; what the socket does not take waits as ever.

Twisted's ``transport.write`` only queues: with a thousand connections the last one is written to after a thousand polls
of the reactor. Here an idle socket is sent to directly. What it refuses, and all that comes while something waits, goes
through the transport, so that the order stays, producers are paused as usual, and errors are found by the reactor.
"""

from __future__ import annotations

import struct
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any, Final

from msgd.sockets import is_idle, plain, send_at_once

_INT: Final = struct.Struct("@i")


class Cork:
    """Holds back what several sources write at once, so that it leaves in one write a connection (compare TCP_CORK)."""

    def __init__(self) -> None:
        self.held = False
        self._kept: dict[Writer, list[bytes]] = {}

    def hold(self) -> None:
        """Until :meth:`release` nothing leaves, in this turn of the reactor."""
        self.held = True

    def keep(self, writer: Writer, data: bytes) -> None:
        """To be written at the release."""
        self._kept.setdefault(writer, []).append(data)

    def flush(self, writer: Writer) -> None:
        """Write what is kept of one connection now."""
        kept = self._kept.pop(writer, None)
        if kept is not None:
            writer.send(kept[0] if len(kept) == 1 else b"".join(kept))

    def release(self) -> None:
        """Write everything."""
        self.held = False
        for writer in list(self._kept):
            self.flush(writer)


class Writer:
    """Writes to one connection."""

    __slots__ = ("_cork", "_tcp", "_transport")

    def __init__(self, transport: Any, cork: Cork) -> None:
        """``transport``: of any kind; only plain TCP is written to directly."""
        self._transport = transport
        self._tcp: Any = plain(transport)
        self._cork = cork

    def write(self, data: bytes) -> None:
        """Send ``data`` after all that was written before."""
        if self._cork.held:
            self._cork.keep(self, data)
        else:
            self.send(data)

    @property
    def pending(self) -> int:
        """Bytes that the other side has not acknowledged; 0 if that cannot be known. Less of them is a sign of life."""
        tcp = self._tcp
        if tcp is None or not tcp.connected:
            return 0
        queued: int = len(tcp.dataBuffer) - tcp.offset + tcp._tempDataLen
        try:
            # SIOCOUTQ of Linux (tcp(7)); on terminals the same number has the name that Python knows.
            (sent,) = _INT.unpack(ioctl(tcp.socket.fileno(), TIOCOUTQ, bytes(_INT.size)))
        except OSError:
            sent = 0
        return queued + int(sent)

    def idle(self) -> int:
        """The descriptor of the socket, if it may be sent to in this very moment; -1: everything goes through
        :meth:`write`."""
        tcp = self._tcp
        if self._cork.held or not is_idle(tcp):
            return -1
        fd: int = tcp.fileno()
        return fd

    def flush(self) -> None:
        """Let nothing be held back: the transport is about to be written to by somebody else."""
        self._cork.flush(self)

    def send(self, data: bytes) -> None:
        """The same, whatever the cork says."""
        self.sent(data, send_at_once(self._tcp, data))

    def sent(self, data: bytes, taken: int) -> None:
        """The socket has taken so many bytes of ``data`` (none, if it has failed): the rest waits for it."""
        if taken < len(data):
            self._transport.write(data[taken:] if taken > 0 else data)
