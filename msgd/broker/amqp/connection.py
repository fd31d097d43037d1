"""A connection that mends itself: Twisted's ClientService over a list of brokers, tried in turn.

ClientService sees a connection only once it has been logged in and prepared (topology declared, consumers standing):
its machine has no state for one that is lost before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from zope.interface import implementer

from msgd.broker.amqp.channel import close_reason
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.broker.amqp.url import Address
from msgd.credentials import tls_to
from msgd.errors import ConfigError, MsgdError

_log = Logger()

RETRY_FIRST_S: Final = 0.25
RETRY_MAX_S: Final = 10.0
"""Attempts to connect come at most so far apart: soon enough after a restart, rare enough for a broker under a herd."""

STOPPED: Final = (ConnectingCancelledError, CancelledError, GeneratorExit)
EXPECTED: Final = (Closed, MsgdError, ConnectError, ConnectionClosed, OSError, *STOPPED)
"""Why a connection fails in the course of things; all else is a mistake of ours, and logged with its traceback."""

Prepare = Callable[[AmqpProtocol], Awaitable[None]]


def retry_delay(attempt: int, jitter: Callable[[], float]) -> float:
    """Seconds before the ``attempt``-th try in a row (from 1): doubling to a limit, the upper half of it by chance.

    ``jitter`` gives numbers from 0 to 1.
    """
    delay: float = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(attempt - 1, 16))
    return delay * (0.5 + 0.5 * jitter())


def endpoint(reactor: Any, address: Address) -> Any:
    """An IStreamClientEndpoint, with TLS verified against the given authorities or the system's. Raises ConfigError."""
    tcp: Any = HostnameEndpoint(reactor, address.host, address.port, timeout=address.connect_timeout)
    if not address.tls:
        return tcp
    own = None
    try:
        if address.certificate_file:
            own = PrivateCertificate.loadPEM(
                Path(address.certificate_file).read_bytes() + b"\n" + Path(address.key_file).read_bytes()
            )
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}", where="broker.url") from None
    except Exception as error:
        raise ConfigError(f"unusable certificate or key for {address}: {error}", where="broker.url") from None
    options = tls_to(address.server_name or address.host, ca_file=address.ca_file, where="broker.url", own=own)
    return wrapClientTLS(options, tcp)


class _Established(Protocol):
    """What ClientService holds of a prepared connection: its transport, and the news of its end."""


@implementer(IStreamClientEndpoint)
class _Login:
    """An endpoint whose ``connect`` includes the log-in and the preparation."""

    def __init__(self, name: str, connect: Callable[[], Awaitable[AmqpProtocol]]) -> None:
        self._name = name
        self._connect = connect

    def __repr__(self) -> str:
        return self._name  # as ClientService logs it

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connected(factory))

    async def _connected(self, factory: Any) -> Any:
        protocol = await self._connect()
        established = factory.buildProtocol(None)
        established.makeConnection(protocol.transport)
        protocol.on_lost(lambda _reason: established.connectionLost(Failure(ConnectionDone())))
        return established


class Link:
    """One connection of a broker, for one purpose: connects, prepares, and does so again whenever it is lost."""

    def __init__(
        self,
        reactor: Any,
        addresses: Sequence[Address],
        *,
        name: str,
        prepare: Prepare,
        up: Callable[[], None],
        down: Callable[[str], None],
        jitter: Callable[[], float],
    ) -> None:
        """``name`` is shown by the broker's tools; ``prepare`` makes a new connection ready; then ``up`` is called.

        ``down`` is called with the reason when a ready connection is lost, unless by :meth:`stop`.
        """
        self.name = name
        self.protocol: AmqpProtocol | None = None
        self.address = addresses[0]
        self.server: dict[str, Any] = {}
        self._reactor = reactor
        self._addresses = addresses
        self._turn = 0
        self._prepare = prepare
        self._up = up
        self._down = down
        self._jitter = jitter
        self.trouble = ""  # of the last attempt or connection
        self._stopping = False
        login: Any = _Login(name, self._login)
        factory: Any = Factory.forProtocol(_Established)
        self._service = ClientService(login, factory, retryPolicy=self._next_try, clock=reactor)

    def start(self) -> None:
        """Begin to connect."""
        self._service.startService()

    async def stop(self, *, cut: bool = False) -> None:
        """End the connection, or the attempts at one. ``cut``: so that deliveries go back in their order."""
        self._stopping = True
        protocol, self.protocol = self.protocol, None
        try:
            if protocol is not None:
                await (protocol.cut() if cut else protocol.hang_up())
        finally:  # also when the goodbye was cancelled: it is not to connect again
            stopped = self._service.stopService() if self._service.running else succeed(None)
        await stopped

    async def _login(self) -> AmqpProtocol:
        address = self.address = self._addresses[self._turn % len(self._addresses)]
        protocol = AmqpProtocol(self._reactor, name=self.name, vhost=address.vhost, heartbeat=address.heartbeat)
        try:
            await endpoint(self._reactor, address).connect(_Given(protocol))
            patience = self._reactor.callLater(address.connect_timeout, protocol.give_up, "the broker does not answer")
            try:
                await protocol.open(address.user, address.password)
            finally:
                if patience.active():
                    patience.cancel()
            self.server = protocol.server
            await self._prepare(protocol)
            if protocol.closed or self._stopping:
                raise Closed("lost, or not wanted any more, while it was made ready")
        except BaseException as error:  # cancellation too: nothing half-open stays behind
            self._turn += 1
            self.trouble = f"Cannot connect to {address}: {_words(error)}"
            if not isinstance(error, EXPECTED):
                _log.failure("{name}: a mistake while connecting", name=self.name)
            if protocol.transport is not None:
                protocol.give_up(self.trouble)
            raise
        self.protocol = protocol
        protocol.on_lost(lambda reason: self._lost(protocol, reason))
        _log.info("{name}: connected to {address}", name=self.name, address=address)
        self._up()
        return protocol

    def _lost(self, protocol: AmqpProtocol, reason: str) -> None:
        if self.protocol is protocol:
            self.protocol = None
            self.trouble = f"Lost {self.address}: {reason}"
            self._down(reason)

    def _next_try(self, attempt: int) -> float:
        delay = retry_delay(attempt, self._jitter)
        following = self._addresses[self._turn % len(self._addresses)]
        _log.warn(
            "{name}: {trouble}; next try in {delay:.1f} s at {following}",
            name=self.name,
            trouble=self.trouble,
            delay=delay,
            following=following,
        )
        return delay


class _Given(Factory):
    """Builds the protocol it was given."""

    noisy = False

    def __init__(self, protocol: AmqpProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Any:
        return self._protocol


def _words(error: BaseException) -> str:
    if isinstance(error, MsgdError):
        return error.message
    return close_reason(error)[1]
