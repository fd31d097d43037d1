"""Writing to a TCP socket at once: Twisted's ``transport.write`` only queues, for the reactor's next turn."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from twisted.internet.tcp import Connection


def plain(transport: Any) -> Any:
    """The transport, if it is plain TCP; None, if its bytes are not ours to send, as beneath TLS."""
    return transport if isinstance(transport, Connection) and not getattr(transport, "TLS", False) else None


def is_idle(tcp: Any) -> bool:
    """Whether the socket may be sent to: it is open, and nothing waits for it. ``tcp``: of :func:`plain`."""
    # Both buffers must be looked at: what was queued in this turn is not in dataBuffer yet.
    return not (tcp is None or not tcp.connected or tcp.dataBuffer or tcp._tempDataBuffer or tcp.disconnecting)


def send_at_once(tcp: Any, data: bytes) -> int:
    """How many bytes the socket has taken; none while others wait, so that the order stays. The rest is for
    ``transport.write``. ``tcp``: of :func:`plain`."""
    if not is_idle(tcp):
        return 0
    try:
        sent: int = tcp.socket.send(data)
    except OSError:
        return 0  # full, or broken: the reactor tells which
    return sent


def waiting(reactor: Any) -> Set[int]:
    """The descriptors to which something is still to be written; for plain TCP, all that are open and not idle, but for
    those that have been aborted: these are open until the reactor's next turn, and are to be sent nothing, whatever
    waited for them. ``reactor``: an IReactorFDSet."""
    return {writer.fileno() for writer in reactor.getWriters()}
