"""HTTP/1.1 connections to many hosts, kept for the next request, one exchange on each at a time.

Why not twisted.web's Agent: it took half of the reactor's time of a crawl (0.2 ms a request), does not bound the number
of headers, and has no way to hang up in mid-body. Connecting is left to endpoints, so the guard and TLS are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Any, Final, Protocol

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from twisted.web.client import URI

from msgd.clock import Clock, DelayedCall
from msgd.services.crawler.http1 import END, BadResponse, Head, ResponseReader

IDLE_S: Final = 10.0
"""How long an unused connection is kept; common servers close theirs after 5 to 75 seconds."""


class Exchange(Protocol):
    """Whoever asks: is told what comes, and then once that it has ended."""

    def head(self, head: Head) -> None: ...

    def piece(self, data: bytes) -> None: ...

    def ended(self) -> None:
        """The whole response has come."""

    def lost(self, reason: BaseException, *, begun: bool) -> None:
        """It will not end: no connection, a broken or cut-off response. ``begun``: something of it had come."""


class Connection(TwistedProtocol):
    """One connection. :meth:`ask` when it is idle."""

    transport: Any

    def __init__(self, idle: Callable[[Connection], None], gone: Callable[[Connection], None]) -> None:
        """``idle``: it may be asked again; ``gone``: it will not be."""
        self._idle = idle
        self._gone = gone
        self._reader = ResponseReader()
        self._exchange: Exchange | None = None
        self._handle: socket | None = None
        self.idle_since = 0.0

    def connectionMade(self) -> None:
        # A transport with TLS has another handle, and must see what is written.
        if isinstance(self.transport, tcp.Connection) and not self.transport.TLS:
            self._handle = self.transport.getHandle()

    def ask(self, request: bytes, exchange: Exchange) -> None:
        """Send a request; ``exchange`` is told what comes."""
        self._exchange = exchange
        self._reader.next_response()
        if self._handle is not None:
            request = request[_sent(self._handle, request) :]
        if request:
            self.transport.write(request)

    def hang_up(self) -> None:
        """End it at once. The exchange is told nothing more."""
        self._exchange = None
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        try:
            for event in self._reader.receive(data):
                exchange = self._exchange
                if exchange is None:  # hung up meanwhile, or nothing was asked
                    self.transport.abortConnection()
                    return
                if event is END:
                    self._exchange = None
                    if self._reader.reusable:
                        self._idle(self)
                    else:
                        self.transport.loseConnection()
                    exchange.ended()
                    return
                if isinstance(event, Head):
                    exchange.head(event)
                else:
                    exchange.piece(event)
        except BadResponse as error:
            lost, begun = self._exchange, self._reader.begun
            self.hang_up()
            if lost is not None:
                lost.lost(error, begun=begun)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 (Twisted's default)
        self._gone(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            if self._reader.closed():
                exchange.ended()
            else:
                exchange.lost(reason.value or ConnectionDone(), begun=self._reader.begun)


def _sent(handle: socket, request: bytes) -> int:
    """How many bytes went out at once. Nothing else waits to be written while a connection is idle, and to have the
    reactor write costs a turn and two calls of epoll, a fifth of what it does for a request."""
    try:
        return handle.send(request)
    except OSError:  # full, or gone: the transport finds out in its own way
        return 0


class _Once(Factory):
    """Makes the one protocol of an endpoint's connection."""

    noisy = False

    def __init__(self, connection: Callable[[], Connection]) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> Connection:
        return self._connection()


class Connections:
    """The connections of a process, by host (scheme, name and port)."""

    def __init__(self, endpoints: Any, clock: Clock, *, kept: int) -> None:
        """``endpoints``: an IAgentEndpointFactory; ``kept``: idle connections of one host."""
        self._endpoints = endpoints
        self._clock = clock
        self._kept = kept
        self._idle: dict[str, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweep: DelayedCall | None = None

    def take(self, host: str) -> Connection | None:
        """An idle connection, the one used last; None: there is none."""
        idle = self._idle.get(host)
        return idle.pop() if idle else None

    def connect(self, host: str) -> Deferred[Connection]:
        """A new connection. Fails with AddressRefused or what the endpoint says."""

        def made() -> Connection:
            connection = Connection(lambda connection: self._rest(host, connection), lambda one: self._gone(host, one))
            self._all.add(connection)
            return connection

        endpoint = self._endpoints.endpointForURI(URI.fromBytes(host.encode("ascii") + b"/"))
        connected: Deferred[Connection] = endpoint.connect(_Once(made))
        return connected

    def stop(self) -> None:
        """Hang up all."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._all):
            connection.hang_up()
        self._idle.clear()

    def _rest(self, host: str, connection: Connection) -> None:
        idle = self._idle.setdefault(host, [])
        if len(idle) >= self._kept:
            connection.hang_up()
            return
        connection.idle_since = self._clock.seconds()
        idle.append(connection)
        if self._sweep is None:
            self._sweep = self._clock.callLater(IDLE_S, self._swept)

    def _gone(self, host: str, connection: Connection) -> None:
        self._all.discard(connection)
        idle = self._idle.get(host)
        if idle is not None and connection in idle:
            idle.remove(connection)
            if not idle:
                del self._idle[host]

    def _swept(self) -> None:
        """Hang up what was idle for long; once in a while for all, not a timer for each request."""
        self._sweep = None
        until = self._clock.seconds() - IDLE_S
        left = False
        for host, idle in list(self._idle.items()):
            for connection in list(idle):
                if connection.idle_since <= until:
                    idle.remove(connection)
                    connection.hang_up()
            if idle:
                left = True
            else:
                self._idle.pop(host, None)
        if left:
            self._sweep = self._clock.callLater(IDLE_S / 2, self._swept)
