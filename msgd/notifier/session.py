"""One ``msgd.v1`` conversation: operations in, messages out. It knows principals and readers, not sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from msgd.clock import DelayedCall
from msgd.errors import MsgdError, RateLimited, Unauthenticated
from msgd.journal.interface import Gap
from msgd.messages.wire import format_time
from msgd.notifier import operations as ops
from msgd.notifier.commands import EventRequest
from msgd.notifier.desk import Desk
from msgd.notifier.interests import Interests, Talking
from msgd.notifier.interface import JobRequest, Principal
from msgd.notifier.limits import EXPIRING_S, HEARTBEAT_S, HELLO_S, OPERATIONS
from msgd.notifier.problems import HIDDEN, status_of
from msgd.notifier.views import gap_view, job_brief, submitted_view

_log = Logger()


class Connection(Talking, Protocol):
    """What carries a session."""

    @property
    def address(self) -> str:
        """Under which strangers are counted; "" for whoever is on this machine."""

    def speaks_for(self, principal: Principal) -> None:
        """This is whom, until the next call."""

    def close(self, code: int, reason: str) -> None: ...

    def hold(self, why: str, held: bool) -> None:
        """Take no more messages, or go on; there may be several reasons at once."""


class Session:
    """From the open connection to its end."""

    def __init__(self, desk: Desk, connection: Connection, session_id: str) -> None:
        self._desk = desk
        self._connection = connection
        self._id = session_id
        self._principal: Principal | None = None
        self._interests = Interests(desk, connection, self)
        self._running: set[Deferred[None]] = set()
        self._timer: DelayedCall | None = None
        self._again: DelayedCall | None = None  # when its client, who was too fast, is heard again
        self._ended = False

    # -- life ---------------------------------------------------------------------------------------------------------

    def opened(self, principal: Principal | None) -> None:
        """The connection stands; ``principal``: whom its handshake spoke for."""
        if principal is not None:
            self._welcome(principal)
        else:
            self._timer = self._desk.clock.callLater(HELLO_S, self._no_hello)

    def refuse(self, why: MsgdError, ref: ops.Ref = None) -> None:
        """This connection is none to talk over."""
        self._error(why, ref)
        limited = isinstance(why, RateLimited)
        code = ops.CROWDED if limited else ops.BROKEN if why.retryable else ops.BAD_TOKEN
        self._connection.close(code, why.message)

    def received(self, payload: bytes) -> None:
        """A message of the client. Operations begin in their order; those that wait do not hold up others."""
        try:
            operation = ops.decode(payload)
        except MsgdError as error:
            self._misunderstood(error, ops.ref_of(payload))
            return
        running = Deferred.fromCoroutine(self._perform(operation))
        if not running.called:
            self._running.add(running)
            running.addBoth(lambda _: self._performed(running))
            if len(self._running) == OPERATIONS:
                self._connection.hold("busy", True)

    def _misunderstood(self, why: MsgdError, ref: ops.Ref) -> None:
        """What cannot be decoded counts as an operation: it costs as much."""
        try:
            self._count()
        except RateLimited as limited:
            why = limited
        self._error(why, ref)

    def closing(self) -> None:
        """No more events are to be sent to the connection."""
        self._interests.closing()

    def ended(self) -> None:
        """The connection is gone."""
        self._ended = True
        self._set_timer(None)
        if self._again is not None and self._again.active():
            self._again.cancel()
        for running in list(self._running):
            running.cancel()
        self._interests.end()

    def drain(self, reconnect_in_s: float) -> None:
        """This process stops: have the client connect anew in so many seconds."""
        self.say("drain", {"reconnect_in": round(reconnect_in_s, 2)})
        self._connection.close(ops.DRAINING, "this server is stopping")

    # -- who ----------------------------------------------------------------------------------------------------------

    def _welcome(self, principal: Principal, ref: ops.Ref = None) -> None:
        self._take(principal)
        expires = format_time(int(principal.expires_s * 1000))
        fields = {"session": self._id, "sub": principal.sub, "expires": expires, "heartbeat": HEARTBEAT_S}
        self.say("welcome", fields, ref)

    def _take(self, principal: Principal) -> None:
        self._principal = principal
        self._connection.speaks_for(principal)
        left_s = principal.expires_s - self._desk.clock.seconds()
        self._set_timer(self._desk.clock.callLater(max(0.0, left_s - EXPIRING_S), self._expiring))

    def _set_timer(self, timer: DelayedCall | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = timer

    def _no_hello(self) -> None:
        self._connection.close(ops.BAD_TOKEN, "no token came: send hello, or a token with the handshake")

    def _expiring(self) -> None:
        assert self._principal is not None
        left_s = max(0.0, self._principal.expires_s - self._desk.clock.seconds())
        self.say("expiring", {"in": round(left_s)})
        self._timer = self._desk.clock.callLater(left_s, self._expired)

    def _expired(self) -> None:
        self._connection.close(ops.BAD_TOKEN, "the token has expired")

    # -- operations ---------------------------------------------------------------------------------------------------

    def _performed(self, running: Deferred[None]) -> None:
        self._running.discard(running)
        if len(self._running) == OPERATIONS - 1 and not self._ended:
            self._connection.hold("busy", False)

    async def _perform(self, operation: ops.AnyOperation) -> None:
        try:
            self._check(operation)
            await _PERFORM[type(operation)](self, operation)
        except CancelledError:
            pass
        except Unauthenticated as error:
            self.refuse(error, operation.ref)
        except MsgdError as error:
            if self._principal is None and isinstance(operation, ops.Hello):
                self.refuse(error, operation.ref)
            else:
                self._error(error, operation.ref)
        except Exception:  # a mistake of ours costs this operation, and not the connection
            _log.failure("{op} failed", op=type(operation).__name__)
            self._error(HIDDEN, operation.ref)

    def _check(self, operation: ops.AnyOperation) -> None:
        """Raises Unauthenticated, RateLimited or Unavailable unless an operation may be performed now."""
        if self._principal is None:
            if not isinstance(operation, (ops.Hello, ops.Ping)):
                raise Unauthenticated("say hello with a token first")
        elif not isinstance(operation, (ops.Hello, ops.Token)):
            self._desk.entry.check(self._principal)
        self._count()

    def _count(self) -> None:
        """Raises RateLimited for one message too many, and hears no more of them until its client may come again: to
        refuse costs as much as to perform."""
        try:
            if self._principal is not None:
                self._desk.allowances.operation(self._principal)
            else:
                self._desk.allowances.stranger(self._connection.address)
        except RateLimited as limited:
            if not self._ended:
                self._connection.hold("pace", True)
                self._again = self._desk.clock.callLater(
                    limited.retry_after or 0.0, self._connection.hold, "pace", False
                )
            raise

    @property
    def who(self) -> Principal:
        """Whom it speaks for; not before there is somebody."""
        assert self._principal is not None
        return self._principal

    async def _hello(self, operation: ops.Hello) -> None:
        if self._principal is not None and not operation.token:
            return self._welcome(self._principal, operation.ref)
        await self._renew(operation.token)
        return self._welcome(self.who, operation.ref)

    async def _token(self, operation: ops.Token) -> None:
        await self._renew(operation.token)
        self.say("ok", {"expires": format_time(int(self.who.expires_s * 1000))}, operation.ref)

    async def _renew(self, token: str) -> None:
        principal = await self._desk.entry.principal(token, self._connection.address)
        if self._principal is None:
            self._desk.doors.check_room(principal)
        elif principal.sub != self._principal.sub:
            self._connection.close(ops.FORBIDDEN, "a connection stays its principal's")
            raise CancelledError
        self._take(principal)
        await self._interests.check()

    async def _subscribe(self, operation: ops.Subscribe) -> None:
        await self._interests.subscribe(operation)

    async def _unsubscribe(self, operation: ops.Unsubscribe) -> None:
        self._interests.unsubscribe(operation)

    async def _presence(self, operation: ops.Presence) -> None:
        await self._interests.watch(operation)

    async def _typing(self, operation: ops.Typing) -> None:
        self._desk.typing.tell(self.who, operation.topic)
        self.say("ok", {}, operation.ref)

    async def _publish(self, operation: ops.Publish) -> None:
        request = EventRequest(topic=operation.topic, type=operation.type, data=operation.data, id=operation.id)
        (event,) = await self._desk.commands.publish(self.who, [request])
        self.say("ok", {"id": event}, operation.ref)

    async def _submit(self, operation: ops.Submit) -> None:
        request = JobRequest(
            type=operation.type,
            params=operation.params,
            key=operation.key,
            delay=operation.delay,
            priority=operation.priority,
        )
        job = await self._desk.commands.submit(self.who, request)
        self.say("ok", submitted_view(job, request.type), operation.ref)

    async def _cancel(self, operation: ops.Cancel) -> None:
        self.say("ok", job_brief(await self._desk.commands.cancel(self.who, operation.job)), operation.ref)

    async def _ping(self, operation: ops.Ping) -> None:
        self.say("ok", {}, operation.ref)

    # -- messages -----------------------------------------------------------------------------------------------------

    def say(self, op: str, fields: Mapping[str, Any], ref: ops.Ref = None) -> None:
        """Tell the client something; ``ref``: of the operation that this answers."""
        if not self._ended:
            self._connection.say(ops.message(op, fields, ref))

    def _error(self, error: MsgdError, ref: ops.Ref) -> None:
        if status_of(error) == 500:
            error = HIDDEN
        fields: dict[str, Any] = {"code": error.code, "message": error.message}
        if error.where:
            fields["where"] = error.where
        if error.retry_after is not None:
            fields["retry_after"] = error.retry_after
        self.say("error", fields, ref)


def gap_message(gap: Gap, subscription: str) -> bytes:
    """The ``gap`` message; it names the subscription where that is a pattern."""
    more = {} if gap.topic == subscription else {"subscription": subscription}
    return ops.message("gap", gap_view(gap) | more)


_PERFORM: Final[Mapping[type[Any], Callable[[Session, Any], Awaitable[None]]]] = {
    ops.Hello: Session._hello,
    ops.Token: Session._token,
    ops.Subscribe: Session._subscribe,
    ops.Unsubscribe: Session._unsubscribe,
    ops.Publish: Session._publish,
    ops.Submit: Session._submit,
    ops.Cancel: Session._cancel,
    ops.Presence: Session._presence,
    ops.Typing: Session._typing,
    ops.Ping: Session._ping,
}
