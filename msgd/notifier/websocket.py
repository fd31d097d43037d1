"""``msgd.v1`` on Autobahn, on the port of everything else. Every limit is set here: Autobahn has none by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import DelayedCall
from msgd.errors import InvalidInput, MsgdError, RateLimited
from msgd.journal.interface import Gap
from msgd.notifier import operations as ops
from msgd.notifier.admission import Admission
from msgd.notifier.calls import RequestCall, header, headers, token_of
from msgd.notifier.deflate import AGREED, Inflater, suits
from msgd.notifier.desk import Desk
from msgd.notifier.direct import Writer
from msgd.notifier.handshake import check_handshake
from msgd.notifier.heartbeat import Heartbeats
from msgd.notifier.interface import Call, Principal, Reply, Route, Taken
from msgd.notifier.items import PING, Item, Stretch, pong_frame, text_frame
from msgd.notifier.limits import BUFFER_BYTES, FRAME_BYTES
from msgd.notifier.origins import Origins
from msgd.notifier.problems import WEBSOCKET_VERSION, MethodNotAllowed
from msgd.notifier.session import Session, gap_message
from msgd.notifier.upgrade import take_over

_log = Logger()

CLOSING_S: Final = 10
"""For the closing handshake."""

REASON_BYTES: Final = 120
"""What fits a close frame beside its code (RFC 6455 §5.5: 125 bytes)."""

_OPENING: Final = (
    "_transport_details",
    "_wskey",
    "http_response_data",
    "is_open",
    "websocket_extensions",
    "websocket_extensions_in_use",
    "websocket_protocols",
)
"""What Autobahn keeps of the opening to the connection's end, and nobody needs: a kilobyte and more."""

TURN_STEPS: Final = 64
"""Of parsing, before others have their turn: a frame takes two, and an operation 30 µs or more, so this is a
millisecond; what is read of a socket at once may hold thousands."""

FULL_BEATS: Final = 3
"""Heartbeats without a sign of life (25 s apart), after which a client with a full buffer, or not read, is cut off."""


class SocketConnection(WebSocketServerProtocol):
    """One WebSocket. Conforms to :class:`~msgd.notifier.session.Connection` and to
    :class:`~msgd.notifier.doors.OpenDoor`; a push producer to its transport."""

    factory: Any
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._session: Session | None = None
        self._paused = False
        self._waiting = 0  # bytes written since the socket was full
        self._consuming = False
        self._turn: DelayedCall | None = None  # when it comes again
        self._writer: Writer | None = None
        self._drained: list[Deferred[None]] = []
        self._held: frozenset[str] = frozenset()
        self._is_asked = False  # whether it is there
        self._left = 0  # bytes on their way to it when it was
        self._missed = 0  # heartbeats without a sign of life
        self.principal: Principal | None = None
        self.refusal: MsgdError | None = None  # why a token that came with the handshake does not count
        self.address = ""  # of a stranger
        self._is_stranger = False
        self._deflates = False
        self._perMessageCompress: Any = None  # Autobahn's, for what comes from the client

    # -- Autobahn's side ----------------------------------------------------------------------------------------------

    def open(self, key: str, *, deflates: bool = False) -> None:
        """Answer the handshake with this key, which has been checked; :meth:`makeConnection` has been called.
        ``deflates``: its client has offered to take events compressed, and shall have them so."""
        self.websocket_version = int(WEBSOCKET_VERSION)
        self.websocket_protocols = [ops.SUBPROTOCOL]
        self.websocket_extensions: list[object] = []
        self._wskey = key
        if deflates:
            self._deflates = True
            self._perMessageCompress = Inflater()
            self.succeedHandshake((ops.SUBPROTOCOL, {"Sec-WebSocket-Extensions": AGREED}))
        else:
            self.succeedHandshake(ops.SUBPROTOCOL)
        for name in _OPENING:
            self.__dict__.pop(name, None)
        self.send_queue: Any = ()  # for writes in pieces, of which there are none; a deque has 760 bytes
        self.trafficStats = self.factory.traffic  # nobody reads them
        self.__dict__ = dict(self.__dict__)  # a dict does not shrink by itself

    def onOpen(self) -> None:
        """The handshake is over: a session begins, or says why there is none."""
        self.transport.registerProducer(self, True)
        self._writer = Writer(self.transport, self.factory.desk.feed.cork)
        refusal = self.refusal or self._no_room()
        self.refusal = None
        if refusal is not None:
            self.principal = None
        self.factory.desk.doors.add(self)
        self.factory.heartbeats.add(self)
        self._session = Session(self.factory.desk, self, self.factory.new_id())
        if refusal is None:
            self._session.opened(self.principal)
        else:
            self._session.refuse(refusal)

    def _no_room(self) -> MsgdError | None:
        """Why this connection is one too many, if it is."""
        desk = self.factory.desk
        try:
            if self.principal is not None:
                desk.doors.check_room(self.principal)
            else:
                desk.allowances.knock(self.address)
                self._is_stranger = True
        except RateLimited as limited:
            return limited
        return None

    def _no_stranger(self) -> None:
        """Its place among the strangers of its address is free again."""
        if self._is_stranger:
            self._is_stranger = False
            self.factory.desk.allowances.known(self.address)

    def dataReceived(self, data: bytes) -> None:
        # Without Autobahn's own, which does the same, but paints words for a log that is not written: 18 µs a
        # message.
        self._dataReceived(data)

    def consumeData(self) -> None:
        """A few frames at a time, so that others have their turn between; what comes while its client is not heard
        waits."""
        if self._consuming:
            return
        if self.state not in (self.STATE_OPEN, self.STATE_CLOSING):
            super().consumeData()
            return
        self._consuming = True
        steps = 0
        try:
            while not self._held and self.processData() and self.state != self.STATE_CLOSED:
                steps += 1
                if steps == TURN_STEPS:
                    self.hold("turn", True)
                    self._turn = self.factory.desk.clock.callLater(0, self.hold, "turn", False)
        finally:
            self._consuming = False

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A whole message, which is one operation."""
        self._is_asked = False
        if self._session is None or self.state != self.STATE_OPEN:
            return  # what follows something wrong is still parsed, and means nothing
        if isBinary:
            self.close(ops.PROTOCOL, "messages are text")
        else:
            self._session.received(payload)

    def onPing(self, payload: bytes) -> None:
        """Answered like any question, so that a flood of pings without a reader of the pongs ends like any other."""
        self._is_asked = False
        if self.state == self.STATE_OPEN:  # else it may be of any length
            self._answer(pong_frame(payload))

    def onPong(self, payload: bytes) -> None:
        """A sign of life."""
        self._is_asked = False

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """In whatever way a close begins; no events follow its frame (RFC 6455 §5.5.1)."""
        self._closing()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def dropConnection(self, abort: bool = False) -> None:
        """At once, perhaps without a close frame. That something waits for an aborted socket, such as half a frame, the
        reactor tells no more; until its next turn the descriptor is open."""
        self._closing()
        super().dropConnection(abort)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Its descriptor is closed, and the next one's from now on: nobody is to send to that for us."""
        self._closing()
        super().connectionLost(reason)

    def _closing(self) -> None:
        if self._session is not None:
            self._session.closing()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The connection is gone, in whatever way: let go of all that belongs to it."""
        session, self._session = self._session, None
        self.factory.desk.doors.remove(self)
        self.factory.heartbeats.remove(self)
        self._no_stranger()
        if session is not None:
            session.ended()
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        drained, self._drained = self._drained, []
        for one in drained:
            one.cancel()

    # -- heartbeats ---------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Ask whether its client is there, unless it has been asked and has not answered yet."""
        if not self._is_asked and self._writer is not None:
            self._is_asked = True
            self._missed = 0
            self._write(PING)
            self._left = self._writer.pending

    def check(self) -> None:
        """A slow client answers when it has read what is before the ping; until then it is enough that it takes some.
        One that is not read for a while, or takes nothing of a full buffer, has some patience."""
        if not self._is_asked or self._writer is None:
            return
        left, before = self._writer.pending, self._left
        self._left = left
        self._missed = 0 if left < before else self._missed + 1
        if self._missed >= (FULL_BEATS if self._paused or self._held else 1):
            self.dropConnection(abort=True)

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
        self.hold("full", False)

    def stopProducing(self) -> None:
        """The connection is gone; ``onClose`` says so too."""

    # -- the session's side -------------------------------------------------------------------------------------------

    def speaks_for(self, principal: Principal) -> None:
        self.principal = principal
        self._no_stranger()
        self.factory.desk.doors.add(self)

    def drained(self) -> Deferred[None]:
        if not self._paused:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda one: self._drained.remove(one) if one in self._drained else None)
        self._drained.append(waiting)
        return waiting

    def show(self, subscription: str, items: Sequence[Item]) -> int:
        """Write what there is room for. A stretch, which thousands show at once, is joined once for all of them."""
        if self._session is None:
            return 0
        room = BUFFER_BYTES - self._waiting
        if type(items) is Stretch:
            joined = items.deflated(subscription) if self._deflates else items.frames(subscription)
            if len(joined) <= room:
                self._write(joined)
                return len(items)
        frames: list[bytes] = []
        size = 0
        for item in items:
            frame = item.deflated(subscription) if self._deflates else item.frame(subscription)
            # A frame larger than the buffer goes out alone.
            if size + len(frame) > room and (frames or self._waiting):
                break
            frames.append(frame)
            size += len(frame)
        if frames:
            self._write(frames[0] if len(frames) == 1 else b"".join(frames))
        return len(frames)

    def straight(self) -> int:
        if self._session is None or self._writer is None or self._deflates or self.state != self.STATE_OPEN:
            return -1
        return self._writer.idle()

    def sent(self, data: bytes, taken: int) -> None:
        if self._writer is not None:
            self._writer.sent(data, taken)
            if self._paused:
                self._waiting += len(data)

    def gap(self, subscription: str, gap: Gap, cursor: str = "") -> None:
        self.say(gap_message(gap, subscription))

    def broke(self, subscription: str) -> None:
        self.close(ops.BROKEN, f"the subscription to {subscription} broke: connect anew")

    def say(self, message: bytes) -> None:
        if self._session is not None:
            self._answer(text_frame(message))

    def close(self, code: int, reason: str) -> None:
        if self._writer is not None:
            self._writer.flush()
        self.sendClose(code, reason.encode()[:REASON_BYTES].decode("utf-8", "ignore"))

    def drain(self, reconnect_in_s: float) -> None:
        """Send the client away, to come back in so many seconds."""
        if self._session is not None:
            self._session.drain(reconnect_in_s)

    def hold(self, why: str, held: bool) -> None:
        """Read nothing of the socket as long as there is any reason not to."""
        before = bool(self._held)
        self._held = self._held | {why} if held else self._held - {why}
        if bool(self._held) == before:
            return
        if held:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()
            self.consumeData()  # what had come already

    def _answer(self, frame: bytes) -> None:
        self._write(frame)
        if self._waiting > BUFFER_BYTES:
            self.hold("full", True)  # answers pile up: no more questions

    def _write(self, data: bytes) -> None:
        """Straight to the transport: frames are ready made, and nothing of ours is ever fragmented or compressed."""
        if self.state != self.STATE_OPEN or self._writer is None:
            return
        self._writer.write(data)
        if self._paused:
            self._waiting += len(data)


class SocketFactory(WebSocketServerFactory):
    """Makes the connections."""

    protocol = SocketConnection

    def __init__(self, desk: Desk, reactor: Any, new_id: Callable[[], str]) -> None:
        super().__init__(protocols=[ops.SUBPROTOCOL], server="", reactor=reactor)
        self.desk = desk
        self.new_id = new_id
        self.heartbeats = Heartbeats(reactor)
        self.traffic = TrafficStats()
        self.setProtocolOptions(
            versions=[int(WEBSOCKET_VERSION)],
            webStatus=False,
            utf8validateIncoming=True,
            requireMaskedClientFrames=True,
            maxFramePayloadSize=FRAME_BYTES,
            maxMessagePayloadSize=FRAME_BYTES,
            failByDrop=False,
            openHandshakeTimeout=0,  # it is over before Autobahn begins
            closeHandshakeTimeout=CLOSING_S,
            tcpNoDelay=True,
        )
        # Autobahn gives each connection a copy of every option that is in the list, and writes them all out for a log
        # that nobody reads.
        options = {name: _plainly(getattr(self, name)) for name in SocketConnection.CONFIG_ATTRS}
        options["CONFIG_ATTRS"] = ()
        configured: Any = type(SocketConnection.__name__, (SocketConnection,), options)
        self.protocol = configured


def _plainly(option: object) -> object:
    """An option as a class can have it: a function would become a method."""
    return staticmethod(option) if callable(option) else option


class Sockets:
    """The door for WebSockets."""

    def __init__(
        self,
        desk: Desk,
        origins: Origins,
        admission: Admission,
        *,
        compress: bool = False,
        reactor: Any,
        new_id: Callable[[], str],
    ) -> None:
        """``compress``: events, for clients that can take them so."""
        self._compress = compress
        self._origins = origins
        self._admission = admission
        self._factory = SocketFactory(desk, reactor, new_id)

    def routes(self) -> Sequence[Route]:
        return (Route(method="GET", path="/ws", endpoint=self.open, open=True, produces=()),)

    async def open(self, call: Call) -> Reply:
        """Turn a request into a WebSocket. Without a token the session waits for ``hello``."""
        assert isinstance(call, RequestCall)
        request = call.request
        if call.method != "GET":
            raise MethodNotAllowed(call.method, "GET")
        if request.clientproto != b"HTTP/1.1":
            raise InvalidInput("a WebSocket begins in HTTP/1.1")
        key = check_handshake(partial(headers, request), ops.SUBPROTOCOL)
        self._origins.check_socket(header(request, "origin"), call.asked)
        self._admission.admit()
        connection: Any = self._factory.buildProtocol(request.channel.transport.getPeer())
        connection.address = call.asked.address
        if self._token_counts(call):
            try:
                connection.principal = call.principal
            except MsgdError as error:
                # Browsers hide a refused handshake from scripts; a close code they show.
                connection.refusal = error
        take_over(request, connection)
        connection.open(key, deflates=self._compress and suits(call.header("sec-websocket-extensions")))
        return Taken()

    def _token_counts(self, call: RequestCall) -> bool:
        """Whether there is one, and it was not a page of another site, which may have one of its own, that made the
        browser send its cookie."""
        token, by_cookie = token_of(call.request)
        if not by_cookie:
            return bool(token)
        return self._origins.counts_cookie(call.header("origin"), call.asked, call.header("sec-fetch-site"))
