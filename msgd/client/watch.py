"""Events of topics over a WebSocket (``msgd.v1``, DESIGN §4.4), in order, over reconnects."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from msgd import __version__
from msgd.client.http import Client, error_of
from msgd.errors import Forbidden, MsgdError, Unauthenticated, Unavailable
from msgd.messages import json
from msgd.messages.topics import check_pattern, matches

SUBPROTOCOL: Final = "msgd.v1"
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
"""Bounds of the full-jitter backoff between connections."""

AHEAD: Final = 1000
"""Messages that may wait to be read before the socket is told to pause."""

_REFUSED: Final = re.compile(r"\[(\d{3})\]")

Message = dict[str, Any]


class _Connection(WebSocketClientProtocol):
    """One WebSocket; tells its Watch and knows nothing else."""

    factory: Any
    transport: Any

    def hold(self, held: bool) -> None:
        """Stop or go on reading from the socket."""
        if held:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def say(self, operation: Message) -> None:
        send: Any = self.sendMessage
        send(json.encode(operation))

    def onOpen(self) -> None:
        self.factory.watch._opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.watch._received(msgspec.json.decode(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.watch._closed(code, reason or "")


class Watch:
    """What happens on topics and patterns, as an endless iterator of the server's messages.

    ``since``: None from now on, ``"0"`` from the first kept, or a cursor. Each kept event comes once and in order, also
    over reconnects; a ``gap`` message says what is lost. Ends by raising: Unauthenticated or Forbidden when the server
    will not have us, InvalidInput for a topic it does not take; with ``patient`` False also Unavailable when the first
    connection fails. Everything else is waited out.
    """

    def __init__(
        self,
        client: Client,
        topics: Sequence[str],
        *,
        since: str | None = None,
        jitter: Callable[[], float],
        patient: bool = True,
        on_status: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._since: dict[str, str | None] = {check_pattern(topic): since for topic in topics}
        self._jitter = jitter
        self._patient = patient
        self._status = on_status
        self._messages: deque[Message] = deque()
        self._waiting: Deferred[None] | None = None
        self._failure: MsgdError | None = None
        self._connection: _Connection | None = None
        self._paused = False
        self._attempt = 0
        self._advised_s: float | None = None
        self._connecting: Deferred[None] | None = None
        self._stopped = False

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        if self._connecting is None and self._connection is None and not self._stopped and self._failure is None:
            self._connect()
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self._stopped:
                raise StopAsyncIteration
            self._waiting = Deferred()
            await self._waiting
        message = self._messages.popleft()
        if self._paused and len(self._messages) < AHEAD // 2 and self._connection is not None:
            self._paused = False
            self._connection.hold(False)
        return message

    async def stop(self) -> None:
        """End the iterator and the connection."""
        self._stopped = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.sendClose(1000)
        self._wake()

    # -- the connection -----------------------------------------------------------------------------------------------

    def _connect(self, wait_s: float = 0.0) -> None:
        self._connecting = Deferred.fromCoroutine(self._dial(wait_s))
        self._connecting.addErrback(_stopped)

    async def _dial(self, wait_s: float) -> None:
        reactor: Any = self._client.reactor
        if wait_s:
            await deferLater(reactor, wait_s)
        url = urlsplit(self._client.url)
        tls = url.scheme == "https"
        assert url.hostname is not None
        port = url.port or (443 if tls else 80)
        headers = {"Authorization": f"Bearer {self._client.token}"} if self._client.token else {}
        factory: Any = WebSocketClientFactory(
            f"{'wss' if tls else 'ws'}://{url.netloc}{url.path.rstrip('/')}/ws",
            protocols=[SUBPROTOCOL],
            useragent=f"msgd/{__version__}",
            headers=headers,
            reactor=reactor,
        )
        factory.protocol = _Connection
        factory.watch = self
        factory.setProtocolOptions(openHandshakeTimeout=10, autoPingInterval=25, autoPingTimeout=10, tcpNoDelay=True)
        endpoint: Any = HostnameEndpoint(reactor, url.hostname, port, timeout=10)
        if tls:
            endpoint = wrapClientTLS(optionsForClientTLS(url.hostname), endpoint)
        try:
            await endpoint.connect(factory)
        except (ConnectError, DNSLookupError) as error:
            self._connecting = None
            self._lost(f"{self._client.url} could not be reached: {error}")

    def _opened(self, connection: _Connection) -> None:
        self._connecting = None
        self._connection = connection
        self._status("connected")
        for ref, (topic, since) in enumerate(self._since.items()):
            operation: Message = {"op": "subscribe", "topic": topic, "ref": ref}
            if since is not None:
                operation["since"] = since
            connection.say(operation)

    def _received(self, message: Message) -> None:
        op = message.get("op")
        if op == "event" and message.get("seq") is not None:
            for pattern in self._since:
                if matches(pattern, message["topic"]):
                    self._since[pattern] = message["cursor"]
        elif op == "subscribed":
            self._attempt = 0
            if self._since.get(message["topic"]) is None:
                self._since[message["topic"]] = message["cursor"]
        elif op == "error" and isinstance(message.get("ref"), int):
            self._fail(_refusal(message))
            return
        elif op == "drain":
            self._advised_s = float(message.get("reconnect_in", 0))
        self._messages.append(message)
        if len(self._messages) > AHEAD and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.hold(True)
        self._wake()

    def _closed(self, code: int | None, reason: str) -> None:
        self._connection = self._connecting = None
        self._paused = False
        refused = _REFUSED.search(reason)
        if code == 4101 or (refused and refused[1] == "401"):
            self._fail(Unauthenticated(reason or "the server did not accept the token", where=self._client.url))
        elif (code is not None and 4100 <= code < 4200) or (refused and refused[1] == "403"):
            self._fail(Forbidden(reason or f"the server closed the connection with code {code}"))
        else:
            self._lost(reason)

    def _lost(self, why: str) -> None:
        if self._stopped:
            self._wake()
            return
        if not self._patient and self._attempt == 0 and all(since is None for since in self._since.values()):
            self._fail(Unavailable(why, where=self._client.url))
            return
        ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self._attempt)
        wait_s = self._advised_s if self._advised_s is not None else ceiling * self._jitter()
        self._attempt += 1
        self._advised_s = None
        self._status(f"{why or 'connection lost'}; next try in {wait_s:.1f} s")
        self._connect(wait_s)

    def _fail(self, error: MsgdError) -> None:
        self._failure = error
        if self._connection is not None:
            self._connection.sendClose(1000)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


def _stopped(failure: Failure) -> None:
    failure.trap(CancelledError)


def _refusal(message: Message) -> MsgdError:
    body = json.encode({"code": message.get("code", ""), "detail": message.get("message", "")})
    return error_of(400, body)
