"""Channels: calls that await their answers in order, callbacks for what comes by itself, and why a channel ended."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed, ConnectionClosed
from txamqp.message import Message as Answer
from txamqp.protocol import AMQChannel
from txamqp.spec import Method

from msgd.broker.amqp.codec import Malformed
from msgd.broker.amqp.frames import method_frame
from msgd.broker.amqp.methods import encode_method

if TYPE_CHECKING:
    from msgd.broker.amqp.protocol import AmqpProtocol

T = TypeVar("T")


def closed_error(reason: Any) -> Closed:
    """txAMQP's error for what closed a channel or connection: an :class:`Answer`, a Failure, or an exception."""
    if isinstance(reason, Answer):
        kind = ChannelClosed if reason.method.klass.name == "channel" else ConnectionClosed
        return kind(reason)
    if isinstance(reason, Failure):
        reason = reason.value
    return reason if isinstance(reason, Closed) else Closed(reason)


def close_reason(error: BaseException) -> tuple[int, str]:
    """AMQP's reply code (0: not from AMQP) and words for an error, such as ``404, "NOT_FOUND - no queue 'q'"``."""
    while isinstance(error, Closed) and error.args:
        cause = error.args[0]
        if isinstance(cause, Answer):
            return cause.reply_code, f"{cause.reply_code} {cause.reply_text}"
        if isinstance(cause, Failure):
            cause = cause.value
        if not isinstance(cause, BaseException):
            break
        error = cause
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return 0, "TLS: " + ", ".join(reason for _library, _function, reason in error.args[0])
    return 0, str(error) or type(error).__name__


class Channel(AMQChannel):
    """A channel: calls that await their answers in order, and callbacks for what comes by itself.

    The methods (``queue_declare``, ``basic_qos``, …) are added by txAMQP, from the specification. Their arguments
    default to 0, "" and False.
    """

    def __init__(self, id: int, outgoing: object, client: AmqpProtocol) -> None:  # noqa: A002  txAMQP's signature
        """Called by :meth:`AmqpProtocol.open_channel`; ``outgoing`` is txAMQP's queue, which stays unused."""
        self.id = id
        self.client: AmqpProtocol = client
        self.closed = False
        self.reason: Any = None
        self._ending: Deferred[None] | None = None
        self._waiting: deque[tuple[Method, Deferred[Any]]] = deque()
        self.on_deliver: Callable[[bytes, bytes, bytes], None] | None = None
        self.on_return: Callable[[bytes, bytes, bytes], None] | None = None
        self.on_confirm: Callable[[bytes], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_closed: Callable[[Closed], None] | None = None

    def invoke(self, method: Method, args: tuple[Any, ...], content: object = None) -> Deferred[Any]:
        """Send a method; fires with its answer, at once if it has none. Content goes by the publisher's own way."""
        if self.closed:
            return fail(closed_error(self.reason))
        if self._ending is not None and method.name != "close-ok":
            return fail(Closed("the channel is being closed"))
        self.client.write(method_frame(self.id, encode_method(method, args)))
        nowait = method.fields.byname.get("nowait")
        if not method.responses or (nowait is not None and args[method.fields.index(nowait)]):
            return succeed(None)
        answered: Deferred[Any] = Deferred()
        self._waiting.append((method, answered))
        return answered

    def answered(self, answer: Answer) -> None:
        """The broker answered the oldest call that awaits an answer."""
        if answer.method.name == "close-ok" and self._ending is not None:
            # The broker need not answer calls that it had not come to when it read our close.
            while self._waiting and answer.method not in self._waiting[0][0].responses:
                self._waiting.popleft()[1].errback(Closed("closed by us"))
        if not self._waiting or answer.method not in self._waiting[0][0].responses:
            raise Malformed(f"the broker sent {answer.method.klass.name}.{answer.method.name} unasked")
        self._waiting.popleft()[1].callback(answer)

    def do_close(self, reason: Any) -> None:
        """The channel is closed, by whom ever: every call that waits fails, and ``on_closed`` is told."""
        if self.closed:
            return
        self.closed = True
        self.reason = reason
        self.client.forget(self)
        error = closed_error(reason)
        waiting, self._waiting = self._waiting, deque()
        for _, answered in waiting:
            answered.errback(error)
        if self.on_closed is not None:
            self.on_closed(error)

    def end(self) -> Deferred[None]:
        """Close the channel in an orderly way; what is cancelled is only the wait. Ending a closed one is harmless."""
        self.on_closed = None
        if self.closed:
            return succeed(None)
        if self._ending is None:
            closing: Deferred[Any] = self.channel_close(reply_code=200, reply_text="")
            self._ending = closing.addCallbacks(lambda _: self.do_close(Closed("closed by us")), _already_closed)
        return shielded(self._ending)


def _already_closed(failure: Failure) -> None:
    failure.trap(Closed)


def shielded(under_way: Deferred[T]) -> Deferred[T]:
    """Fires with ``under_way``, which goes on if this one is cancelled."""
    shield: Deferred[Any] = Deferred()

    def over(outcome: Any) -> Any:
        shield.callback(outcome)  # a Failure too
        return None if isinstance(outcome, Failure) else outcome

    under_way.addBoth(over)
    return shield


@asynccontextmanager
async def borrowed(protocol: AmqpProtocol) -> AsyncIterator[Channel]:
    """A channel for one piece of work; closed afterwards, however that ends."""
    channel = await protocol.open_channel()
    try:
        yield channel
    except BaseException:  # whatever it is goes on; the channel must not stay open behind it
        channel.end()  # without waiting: this may be a cancellation
        raise
    await channel.end()


async def together(calls: Iterable[Deferred[Any]]) -> None:
    """Await all calls, which are under way already; raises the first error once all have ended."""
    for succeeded, outcome in await DeferredList(list(calls), consumeErrors=True):
        if not succeeded:
            assert isinstance(outcome, Failure)
            outcome.raiseException()
