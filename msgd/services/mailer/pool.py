"""The way to an SMTP server: connections that are made when they are needed, and used again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import Clock, DelayedCall
from msgd.services.mailer.replies import Dropped, Outcome
from msgd.services.mailer.smtp import Connection, Login, Unreachable
from msgd.services.mailer.transaction import Envelope

_log = Logger()

CONNECT_S: Final = 30.0
"""To the end of TCP's handshake; what is dropped on the way is sent again after 1, 3, 7, 15 seconds."""

OPENING_S: Final = 60.0
"""For greeting, TLS and login: some servers delay their greeting for half a minute, to be rid of those in a hurry."""

IDLE_S: Final = 20.0
"""A connection is kept that long without a mail: servers close them after some minutes, and count them meanwhile."""

TRIES: Final = 3
"""Connections that may turn out to be closed in one delivery; each was open a moment ago."""

PORTS: Final = {"smtp": 587, "smtps": 465}
"""RFC 6409 and RFC 8314."""


class _Single(Factory):
    """Of one connection, which is there already."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> Connection:
        return self._connection


class _Hurried(Exception):
    """Who waits for a connection is to wait no more."""


class _Delivery:
    """A mail that is being handed over."""

    __slots__ = ("connection", "envelope", "hurried", "name", "pass_on")

    def __init__(self, envelope: Envelope, name: str, pass_on: Callable[[], None] | None) -> None:
        self.envelope = envelope
        self.name = name
        self.pass_on = pass_on
        self.connection: Connection | None = None
        self.hurried = False  # it is not to be tried once more


class Server(Struct, frozen=True):
    """Where mail is handed over, and how."""

    host: str
    port: int
    tls: bool  # from the first byte
    starttls: str = "required"  # or "opportunistic", or "off"
    login: Login | None = None

    @property
    def secured(self) -> bool:
        return self.tls or self.starttls == "required"


def server(url: str, *, starttls: str, login: Login | None) -> Server:
    """The server that ``smtp://host:port`` or ``smtps://host:port`` names."""
    parts = urlsplit(url)
    return Server(parts.hostname or "", parts.port or PORTS[parts.scheme], parts.scheme == "smtps", starttls, login)


class SmtpWay:
    """Hands mail to one server. Conforms to :class:`~msgd.services.mailer.ways.Way`."""

    def __init__(
        self,
        server: Server,
        clock: Clock,
        *,
        endpoint: Callable[[], Any],
        tls: Any = None,
        connections: int,
        identity: str,
        opening_s: float = OPENING_S,
        **timeouts: float,
    ) -> None:
        """``endpoint``: makes the endpoint to connect to; ``tls``: what makes STARTTLS connections; ``connections``:
        at most; ``identity``: the name for EHLO; ``timeouts``: of a :class:`Connection`."""
        self.width = connections
        self._server = server
        self._clock = clock
        self._endpoint = endpoint
        self._tls = tls if server.starttls != "off" else None
        self._identity = identity
        self._opening_s = opening_s
        self._timeouts = timeouts
        self._idle: deque[tuple[Connection, float]] = deque()  # since when; the one used last comes last
        self._sweep: DelayedCall | None = None
        self._open: set[Connection] = set()
        self._count = 0  # connections, also those that are being made
        self._waiting: deque[tuple[Deferred[None], str]] = deque()  # with the name of the mail that waits
        self._busy: dict[str, _Delivery] = {}
        self._offered: Connection | None = None  # over which a mail may follow another, just now
        self._following = True  # the server is not confused by that
        self._stopped = False

    async def start(self) -> None:
        """Nothing is connected before there is a mail."""

    async def stop(self) -> None:
        """Close what is idle, cut off the rest."""
        self._stopped = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle:
            self._idle.popleft()[0].quit()
        for connection in list(self._open):
            connection.abort()

    async def ready(self) -> None:
        """A connection stands, and is kept for the mail to come."""
        self._release(await self._acquire(""))

    def deliver(self, envelope: Envelope, name: str, *, pass_on: Callable[[], None] | None = None) -> Deferred[Outcome]:
        """Over a connection that is free, or a new one."""
        one = _Delivery(envelope, name, pass_on)
        connection = self._at_once()
        if connection is None:
            return Deferred.fromCoroutine(self._deliver(one, TRIES))
        return self._send(connection, one).addCallback(self._or_again, one)

    def _at_once(self) -> Connection | None:
        """A connection that is free now, first the one behind whose mail another may follow."""
        offered, self._offered = self._offered, None
        if offered is not None and offered.usable:
            return offered
        while self._idle and not self._waiting and not self._stopped:
            connection, _ = self._idle.pop()  # the one used last: the others grow old and are closed
            if connection.usable:
                return connection
        return None

    def _or_again(self, outcome: Outcome, one: _Delivery) -> Outcome | Deferred[Outcome]:
        if self._is_final(outcome, one):
            return outcome
        return Deferred.fromCoroutine(self._deliver(one, TRIES - 1))

    def _is_final(self, outcome: Outcome, one: _Delivery) -> bool:
        return not isinstance(outcome, Dropped) or outcome.fresh or one.hurried or self._stopped

    async def _deliver(self, one: _Delivery, tries: int) -> Outcome:
        for tries_left in range(tries - 1, -1, -1):
            try:
                connection = await self._acquire(one.name, new=tries_left == 0)
            except _Hurried:
                return Dropped("no connection became free in time", fresh=True)
            outcome = await self._send(connection, one)
            if self._is_final(outcome, one):
                break
        return outcome

    def _send(self, connection: Connection, one: _Delivery) -> Deferred[Outcome]:
        one.connection = connection
        self._busy[one.name] = one
        pass_on = one.pass_on
        if pass_on is not None:
            pass_on = partial(self._pass_on, connection, pass_on) if self._following else None
        return connection.send(one.envelope, pass_on=pass_on).addBoth(self._sent, connection, one)

    def _sent(self, outcome: Outcome | Failure, connection: Connection, one: _Delivery) -> Outcome | Failure:
        del self._busy[one.name]
        if connection.misled and self._following:
            self._following = False
            _log.warn("{server} is sent one mail after the other: it loses what follows a mail", server=self._where)
        self._release(connection)
        return outcome

    def _pass_on(self, connection: Connection, pass_on: Callable[[], None]) -> None:
        """Whoever is handed over next may follow over this connection."""
        self._offered = connection
        pass_on()
        self._offered = None

    def hurry(self, names: frozenset[str], *, hard: bool) -> None:
        for entry in [entry for entry in self._waiting if entry[1] in names]:
            self._waiting.remove(entry)
            entry[0].errback(_Hurried())
        for name in names:
            one = self._busy.get(name)
            if one is not None and one.connection is not None:
                one.hurried = True
                one.connection.give_up(one.envelope, hard=hard)

    # -- connections --------------------------------------------------------------------------------------------------

    async def _acquire(self, name: str, *, new: bool = False) -> Connection:
        while True:
            if self._stopped:
                raise Unreachable("the mailer is stopping")
            while self._idle and not new:
                connection, _ = self._idle.pop()
                if connection.usable:
                    return connection
            if self._count < self.width:
                return await self._connect()
            if new and self._idle:
                connection, _ = self._idle.popleft()
                connection.quit()
                self._forget(connection)
                continue
            await self._turn(name)

    def _turn(self, name: str) -> Deferred[None]:
        """Fires when a connection may be free."""
        entry = (Deferred[None](lambda _: self._waiting.remove(entry)), name)
        self._waiting.append(entry)
        return entry[0]

    def _release(self, connection: Connection) -> None:
        if connection.usable and not self._stopped:
            self._idle.append((connection, self._clock.seconds()))
            if self._sweep is None:
                self._sweep = self._clock.callLater(IDLE_S, self._close_old)
            self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting.popleft()[0].callback(None)

    def _close_old(self) -> None:
        """Close what has been idle for too long, and look again when the next one may have been."""
        self._sweep = None
        now_s = self._clock.seconds()
        while self._idle and self._idle[0][1] <= now_s - IDLE_S:
            self._idle.popleft()[0].quit()
        if self._idle:
            self._sweep = self._clock.callLater(self._idle[0][1] + IDLE_S - now_s, self._close_old)

    async def _connect(self) -> Connection:
        self._count += 1
        stands = False
        timer: DelayedCall | None = None
        try:
            made = Connection(
                self._clock,
                self._identity,
                login=self._server.login,
                tls=self._tls,
                require_tls=self._server.secured,
                lost=self._forget,
                **self._timeouts,
            )
            await self._endpoint().connect(_Single(made))
            stands = True
            self._open.add(made)
            timer = self._clock.callLater(self._opening_s, made.abort)
            await made.opened()
            return made
        except (ConnectError, DNSLookupError) as error:
            raise Unreachable(f"{self._where}: {error}", where=self._where) from None
        except Unreachable as error:
            raise Unreachable(f"{self._where}: {error.message}", where=self._where) from None
        finally:
            if timer is not None and timer.active():
                timer.cancel()
            if not stands:  # else it is counted until it is lost
                self._count -= 1
                self._wake()

    @property
    def _where(self) -> str:
        return f"{self._server.host}:{self._server.port}"

    def _forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._count -= 1
            self._wake()
