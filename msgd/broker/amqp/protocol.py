"""txAMQP's client, hardened: its connection, channels and method calls, over framing and content of our own.

Kept are txAMQP's specification objects, the methods generated from them (``channel.queue_declare(...)``), the dispatch
of the server's methods to a delegate, and the states of a connection. Replaced is every byte in or out, and what waits:
deliveries, returns and confirms go straight to callbacks of their channel, answers to the call that they answer.

Everything written in one turn of the reactor leaves in one ``transport.write``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ISSLTransport
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed, TwistedDelegate
from txamqp.content import Content
from txamqp.message import Message as Answer
from txamqp.protocol import AMQClient

from msgd import __version__
from msgd.broker.amqp.channel import Channel, close_reason, closed_error
from msgd.broker.amqp.codec import Malformed
from msgd.broker.amqp.content import decode_message
from msgd.broker.amqp.frames import (
    ACK,
    DELIVER,
    FRAME_MIN,
    HEARTBEAT_FRAME,
    NACK,
    PREAMBLE,
    RETURN,
    FrameReader,
)
from msgd.broker.amqp.methods import decode_method
from msgd.broker.amqp.spec import specification
from msgd.errors import BrokerUnavailable

_log = Logger()

FRAME_MAX: Final = 131_072
"""Bytes of a frame at most, RabbitMQ's own default: a larger one would let a single message hold up a connection."""

CHANNEL_MAX: Final = 2047
"""Channels of a connection at most, RabbitMQ's own default."""

HEARTBEAT_S: Final = 20
"""Offered interval of heartbeats: a peer is given up after two of them without a sign of life."""

CLOSE_S: Final = 3.0
"""How long a broker may take to answer ``connection.close``; one that has blocked us does not answer at all."""

CAPABILITIES: Final = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}
"""What RabbitMQ tells only those who say that they understand it."""


class _Delegate(TwistedDelegate):
    """What to do with methods that the server sends by itself; txAMQP looks them up by name."""

    client: AmqpProtocol

    def connection_start(self, ch: Channel, msg: Answer) -> None:
        self.client.introduced(msg.server_properties)
        ch.connection_start_ok(
            client_properties={
                "product": "msgd",
                "version": __version__,
                "platform": "Python, Twisted, txAMQP",
                "connection_name": self.client.name,
                "capabilities": CAPABILITIES,
            },
            mechanism=self.client.mechanism,
            response=self.client.response,
            locale=self.client.locale,
        )
        self.client.response = ""

    def connection_tune(self, ch: Channel, msg: Answer) -> None:
        ch.connection_tune_ok(*self.client.tuned(msg.channel_max, msg.frame_max, msg.heartbeat))
        self.client.started.fire()

    def connection_blocked(self, ch: Channel, msg: Answer) -> None:
        self.client.blocked(msg.reason)

    def connection_unblocked(self, ch: Channel, msg: Answer) -> None:
        self.client.unblocked()

    def basic_cancel(self, ch: Channel, msg: Answer) -> None:
        if ch.on_cancel is not None:
            ch.on_cancel()


class AmqpProtocol(AMQClient):
    """One connection to a broker."""

    channelClass = Channel

    def __init__(self, clock: IReactorTime, *, name: str, vhost: str, heartbeat: int = HEARTBEAT_S) -> None:
        """``name`` is shown by the broker's tools; ``heartbeat`` is in seconds, 0 for none."""
        # txAMQP's own heartbeats move a timer at every frame: they stay off.
        AMQClient.__init__(self, _Delegate(), vhost, specification(), heartbeat=0, clock=clock)
        self.name = name
        self.server: dict[str, Any] = {}
        self.frame_max = FRAME_MIN
        self.on_blocked: Callable[[str], None] | None = None
        self.on_unblocked: Callable[[], None] | None = None
        self._offered = heartbeat
        self._channel_max = CHANNEL_MAX
        self._reader = FrameReader(FRAME_MAX)
        self._out: list[bytes] = []
        self._flushing: DelayedCall | None = None
        self._before_flush: dict[Callable[[], None], None] = {}
        self._heard = self._spoke = False
        self._silent_beats = 0
        self._reading = True
        self._beats: LoopingCall | None = None
        self._why: Closed | None = None
        self._gone = False
        self._on_lost: list[Callable[[str], None]] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        for option in ("setTcpNoDelay", "setTcpKeepAlive"):
            set_option = getattr(self.transport, option, None)
            if set_option is not None:
                set_option(True)
        self._channel(0)  # the connection's own, there from the start
        self.write(PREAMBLE)

    async def open(self, user: str, password: str) -> None:
        """Log in with SASL PLAIN and open the vhost. Raises txAMQP's Closed."""
        await self.authenticate(user, password, mechanism="PLAIN")

    def introduced(self, properties: dict[str, Any]) -> None:
        """The server said who it is."""
        self.server = properties

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> tuple[int, int, int]:
        """Agree on limits: the lower of what both want, where 0 means no limit (AMQP 0-9-1 §4.2.3)."""
        self._channel_max = min(channel_max or CHANNEL_MAX, CHANNEL_MAX)
        self.frame_max = self._reader.frame_max = max(min(frame_max or FRAME_MAX, FRAME_MAX), FRAME_MIN)
        interval = min(heartbeat, self._offered) if heartbeat and self._offered else 0
        if interval:
            self._beats = LoopingCall(self._beat)
            self._beats.clock = self.clock
            # A frame every half interval, so that one late by as much again is still in time (RabbitMQ's advice).
            self._beats.start(interval / 2, now=False)
        return self._channel_max, self.frame_max, interval

    def _beat(self) -> None:
        if not self._spoke:
            self.write(HEARTBEAT_FRAME)
        self._spoke = False
        self._silent_beats = 0 if self._heard or not self._reading else self._silent_beats + 1
        self._heard = False
        if self._silent_beats >= 4:
            self.give_up("no heartbeat from the broker")

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the reason once the connection is gone; at once if it is."""
        if self._gone:
            assert self._why is not None
            callback(close_reason(self._why)[1])
        else:
            self._on_lost.append(callback)

    def give_up(self, reason: str) -> None:
        """Cut the connection now."""
        self.do_close(Closed(reason))
        self.transport.abortConnection()

    async def hang_up(self) -> None:
        """Write what is left, say ``connection.close`` and await the answer, at most :data:`CLOSE_S` seconds."""
        if self.closed:
            return
        self.read_on()
        self._flush()  # acknowledgements before the goodbye
        answered: Deferred[Any] = self._channel(0).connection_close(reply_code=200, reply_text="goodbye")
        answered.addTimeout(CLOSE_S, self.clock)
        try:
            await answered
        except CancelledError:
            self.give_up("the goodbye was cut short")
            raise
        except Exception:  # whatever it is, the connection is no use any more
            self.give_up("the broker did not answer connection.close")
        else:
            self.do_close(Closed("closed by us"))

    async def cut(self) -> None:
        """Write what is left and end the connection without a word, so that the broker gives back all deliveries.

        Only this way a quorum queue takes them back in order (3.10.8). What was written is read first: our side of the
        socket closes, the broker's stays open until it has seen the end.
        """
        if self.closed:
            return
        self.read_on()  # up to the end
        gone: Deferred[None] = Deferred()
        self.on_lost(lambda _reason: gone.callback(None))
        self._flush()
        for channel in list(self.channels.values()):
            channel.on_deliver = None
        if ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()  # TLS says its own goodbye, and reads on until it is answered
        else:
            self.transport.loseWriteConnection()
        patience = self.clock.callLater(CLOSE_S, self.give_up, "the broker did not end the connection")
        await gone
        if patience.active():
            patience.cancel()

    def do_close(self, reason: Any) -> None:
        """txAMQP's: the server closed the connection, or it is lost. Every channel is told, once."""
        if self._why is not None:
            return
        self._why = error = closed_error(reason)
        self.closed = True
        if self._beats is not None and self._beats.running:
            self._beats.stop()
        self._flush()  # the last acknowledgements, and close-ok
        for channel in list(self.channels.values()):
            channel.do_close(error)
        self.delegate.close(error)

    def connectionLost(self, reason: Failure) -> None:
        self.do_close(Closed(reason))
        self._gone = True
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._out.clear()
        self.disconnected.fire()
        assert self._why is not None
        text = close_reason(self._why)[1]
        callbacks, self._on_lost = self._on_lost, []
        for callback in callbacks:
            callback(text)

    # -- channels ------------------------------------------------------------------------------------------------------

    def _channel(self, number: int) -> Channel:
        found: Channel | None = self.channels.get(number)
        if found is None:
            found = self.channels[number] = self.channelFactory(number, None, self)
        return found

    async def open_channel(self) -> Channel:
        """A new channel. Raises Closed, and BrokerUnavailable if all the numbers are taken."""
        if self.closed:
            raise Closed("the connection is closed")
        number = next((n for n in range(1, self._channel_max + 1) if n not in self.channels), None)
        if number is None:
            raise BrokerUnavailable(f"all {self._channel_max} channels of the connection are in use")
        channel = self._channel(number)
        try:
            await channel.channel_open()
        except BaseException:  # a cancellation: the broker may have opened it all the same
            channel.end()
            raise
        return channel

    def forget(self, channel: Channel) -> None:
        """A channel is closed; its number is free again."""
        if self.channels.get(channel.id) is channel:
            del self.channels[channel.id]
        self._reader.forget(channel.id)

    def blocked(self, reason: str) -> None:
        """The server said ``connection.blocked``."""
        if self.on_blocked is not None:
            self.on_blocked(reason)

    def unblocked(self) -> None:
        """The server said ``connection.unblocked``."""
        if self.on_unblocked is not None:
            self.on_unblocked()

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write at the end of this turn, with all else that is written in it; nothing if the connection is gone."""
        if self._gone:
            return
        self._out.append(data)
        if self._flushing is None:
            self._flushing = self.clock.callLater(0, self._flush)

    def before_flush(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, once, before the end of this turn, for what can be joined (acknowledgements)."""
        if self._gone:
            return
        self._before_flush[callback] = None
        if self._flushing is None:
            self._flushing = self.clock.callLater(0, self._flush)

    def _flush(self) -> None:
        if self._before_flush:
            callbacks, self._before_flush = self._before_flush, {}
            for callback in callbacks:
                callback()
        flushing, self._flushing = self._flushing, None
        if flushing is not None and flushing.active():
            flushing.cancel()
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._spoke = True
            self.transport.write(data)

    # -- reading -------------------------------------------------------------------------------------------------------

    def stop_reading(self) -> None:
        """Leave what the broker sends where it is, but for what has been read already; our heartbeats go on."""
        if self._reading and not self.closed:
            self._reading = False
            self.transport.pauseProducing()

    def read_on(self) -> None:
        """The end of :meth:`stop_reading`, if need be."""
        if not self._reading:
            self._reading = True
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self._heard = True
        try:
            for number, method, header, body in self._reader.feed(data):
                channel = self.channels.get(number)
                if channel is None:
                    continue  # closed by us, and the broker did not know yet
                kind = method[:4]
                if kind == DELIVER:
                    if channel.on_deliver is not None:
                        channel.on_deliver(method, header, body)
                elif kind in (ACK, NACK) and channel.on_confirm is not None:
                    channel.on_confirm(method)
                elif kind == RETURN and channel.on_return is not None:
                    channel.on_return(method, header, body)
                else:
                    self._method(channel, method, header, body)
        except Malformed as error:
            _log.error("Cutting {name}: {error}", name=self.name, error=error)
            self.give_up(str(error))

    def _method(self, channel: Channel, payload: bytes, header: bytes | None, body: bytes) -> None:
        method, arguments = decode_method(self.spec, payload)
        content = None
        if header is not None:
            message = decode_message(header, body)
            content = Content(message.body, properties={"message": message})
        answer = Answer(method, arguments, content)
        if method.response:
            channel.answered(answer)
        elif not hasattr(self.delegate, f"{method.klass.name}_{method.name}".replace("-", "_")):
            raise Malformed(f"the broker sent {method.klass.name}.{method.name}, which is no business of a client")
        else:
            self.delegate.dispatch(channel, answer)
