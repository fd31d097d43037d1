"""``msgd.v1`` on Autobahn, on the port of everything else. Every limit is set here: Autobahn has none by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from msgd.errors import MsgdError
from msgd.journal.interface import Gap
from msgd.notifier import operations as ops
from msgd.notifier.calls import RequestCall, header, token_in
from msgd.notifier.interface import Call, Principal, Reply, Route, Taken
from msgd.notifier.items import Item, pong_frame, text_frame
from msgd.notifier.limits import BUFFER_BYTES, DRAIN_SPREAD_S, FRAME_BYTES, HEARTBEAT_S, PONG_S
from msgd.notifier.origins import Origins
from msgd.notifier.problems import UpgradeRequired
from msgd.notifier.session import Desk, Session, gap_message

_log = Logger()

HANDSHAKE_S: Final = 10
"""For the opening and for the closing handshake."""

REASON_BYTES: Final = 120
"""What fits a close frame beside its code (RFC 6455 §5.5: 125 bytes)."""


class SocketConnection(WebSocketServerProtocol):
    """One WebSocket. Conforms to :class:`~msgd.notifier.session.Connection`; a push producer to its transport."""

    factory: Any
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._session: Session | None = None
        self._paused = False
        self._waiting = 0  # bytes written since the socket was full
        self._drained: list[Deferred[None]] = []
        self._held: set[str] = set()
        self._principal: Principal | None = None
        self._refusal: MsgdError | None = None

    # -- Autobahn's side ----------------------------------------------------------------------------------------------

    def onConnect(self, request: ConnectionRequest) -> Any:
        """The handshake: whom does it speak for?"""
        return Deferred.fromCoroutine(self._admit(request))

    async def _admit(self, request: ConnectionRequest) -> str:
        if ops.SUBPROTOCOL not in request.protocols:
            raise ConnectionDeny(400, f"this server speaks the subprotocol {ops.SUBPROTOCOL} only")
        token, _ = token_in(request.headers.get("authorization", ""), request.headers.get("cookie", ""))
        if token:
            try:
                self._principal = await self.factory.desk.tokens.principal(token)
            except MsgdError as error:
                # Browsers hide a refused handshake from scripts; a close code they show.
                self._refusal = error
        return ops.SUBPROTOCOL

    def onOpen(self) -> None:
        # twisted.web's channel is still registered with the transport that was taken over from it.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)
        self.factory.connections[self] = None
        self._session = Session(self.factory.desk, self, self.factory.new_id())
        if self._refusal is None:
            self._session.opened(self._principal)
        else:
            code = ops.BROKEN if self._refusal.retryable else ops.BAD_TOKEN
            self.close(code, self._refusal.message)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._session is None:
            return
        if isBinary:
            self.close(ops.PROTOCOL, "messages are text")
        else:
            self._session.received(payload)

    def onPing(self, payload: bytes) -> None:
        """Answered like any question, so that a flood of pings without a reader of the pongs ends like any other."""
        self._answer(pong_frame(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        session, self._session = self._session, None
        self.factory.connections.pop(self, None)
        if session is not None:
            session.ended()
        drained, self._drained = self._drained, []
        for one in drained:
            one.cancel()

    # -- the transport's side -----------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The socket's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Everything has been written."""
        self._paused = False
        self._waiting = 0
        drained, self._drained = self._drained, []
        for one in drained:
            one.callback(None)
        self._hold("full", False)

    def stopProducing(self) -> None:
        """The connection is gone; ``onClose`` says so too."""

    # -- the session's side -------------------------------------------------------------------------------------------

    def drained(self) -> Deferred[None]:
        if not self._paused:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda one: self._drained.remove(one) if one in self._drained else None)
        self._drained.append(waiting)
        return waiting

    def show(self, subscription: str, items: Sequence[Item]) -> int:
        if self._session is None:
            return 0
        room = BUFFER_BYTES - self._waiting
        frames: list[bytes] = []
        size = 0
        for item in items:
            frame = item.frame(subscription)
            # A frame larger than the buffer goes out alone.
            if size + len(frame) > room and (frames or self._waiting):
                break
            frames.append(frame)
            size += len(frame)
        if frames:
            self._write(frames[0] if len(frames) == 1 else b"".join(frames))
        return len(frames)

    def gap(self, subscription: str, gap: Gap) -> None:
        self.say(gap_message(gap, subscription))

    def broke(self, subscription: str) -> None:
        self.close(ops.BROKEN, f"the subscription to {subscription} broke: connect anew")

    def say(self, message: bytes) -> None:
        if self._session is not None:
            self._answer(text_frame(message))

    def close(self, code: int, reason: str) -> None:
        self.sendClose(code, reason.encode()[:REASON_BYTES].decode("utf-8", "ignore"))

    def hold(self, held: bool) -> None:
        self._hold("busy", held)

    def drain(self, reconnect_in_s: float) -> None:
        """Send the client away, to come back in so many seconds."""
        if self._session is not None:
            self._session.drain(reconnect_in_s)

    def _hold(self, why: str, held: bool) -> None:
        before = bool(self._held)
        (self._held.add if held else self._held.discard)(why)
        if bool(self._held) != before:
            (self.transport.pauseProducing if held else self.transport.resumeProducing)()

    def _answer(self, frame: bytes) -> None:
        self._write(frame)
        if self._waiting > BUFFER_BYTES:
            self._hold("full", True)  # answers pile up: no more questions

    def _write(self, data: bytes) -> None:
        """Straight to the transport: frames are ready made, and nothing of ours is ever fragmented or compressed."""
        if self.state != self.STATE_OPEN:
            return
        self.transport.write(data)
        if self._paused:
            self._waiting += len(data)


class SocketFactory(WebSocketServerFactory):
    """Makes the connections, and knows them."""

    protocol = SocketConnection

    def __init__(self, desk: Desk, reactor: Any, new_id: Callable[[], str]) -> None:
        super().__init__(protocols=[ops.SUBPROTOCOL], server="", reactor=reactor)
        self.desk = desk
        self.new_id = new_id
        self.connections: dict[SocketConnection, None] = {}
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            utf8validateIncoming=True,
            requireMaskedClientFrames=True,
            maxFramePayloadSize=FRAME_BYTES,
            maxMessagePayloadSize=FRAME_BYTES,
            failByDrop=False,
            openHandshakeTimeout=HANDSHAKE_S,
            closeHandshakeTimeout=HANDSHAKE_S,
            tcpNoDelay=True,
            autoPingInterval=HEARTBEAT_S,
            autoPingTimeout=PONG_S,
            # The origin is checked by the door, against more than Autobahn knows.
            allowedOrigins=["*"],
            allowNullOrigin=True,
        )


class Sockets:
    """The door for WebSockets."""

    def __init__(
        self, desk: Desk, origins: Origins, *, reactor: Any, new_id: Callable[[], str], random: Callable[[], float]
    ) -> None:
        """``random``: 0 to 1, to spread reconnects."""
        self._origins = origins
        self._random = random
        self._factory = SocketFactory(desk, reactor, new_id)
        self._resource = WebSocketResource(self._factory)

    def routes(self) -> Sequence[Route]:
        return (Route(method="GET", path="/ws", endpoint=self.open, open=True, produces=()),)

    async def open(self, call: Call) -> Reply:
        """Turn a request into a WebSocket. Without a token the session waits for ``hello``."""
        assert isinstance(call, RequestCall)
        request = call.request
        if "websocket" not in header(request, "upgrade").lower():
            raise UpgradeRequired("this is a WebSocket: connect with the subprotocol msgd.v1", where="upgrade")
        self._origins.check_socket(header(request, "origin"), header(request, "host"))
        self._resource.render(request)
        return Taken()

    def drain(self) -> int:
        """Send all clients away, each to come back at a moment of its own; how many there were."""
        connections = list(self._factory.connections)
        for connection in connections:
            connection.drain(DRAIN_SPREAD_S * self._random())
        return len(connections)
