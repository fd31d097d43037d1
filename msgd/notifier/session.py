"""One ``msgd.v1`` conversation: operations in, messages out. It knows principals and readers, not sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from msgd.clock import DelayedCall
from msgd.errors import Conflict, InvalidInput, MsgdError, Overloaded, Unauthenticated
from msgd.journal.interface import Gap
from msgd.messages.topics import check_pattern
from msgd.messages.wire import format_time
from msgd.notifier import operations as ops
from msgd.notifier.auth import Tokens
from msgd.notifier.commands import Commands, EventRequest, JobRequest
from msgd.notifier.feed import Feed
from msgd.notifier.interface import Principal
from msgd.notifier.limits import EXPIRING_S, HEARTBEAT_S, HELLO_S, OPERATIONS, SUBSCRIPTIONS
from msgd.notifier.problems import HIDDEN, status_of
from msgd.notifier.reader import Outlet, Reader
from msgd.notifier.views import gap_view, job_brief, job_view

_log = Logger()

JOB_PREFIX: Final = "job."


class Desk:
    """What every session works with."""

    def __init__(self, commands: Commands, feed: Feed, tokens: Tokens, clock: Any) -> None:
        self.commands = commands
        self.feed = feed
        self.tokens = tokens
        self.clock = clock


class Connection(Outlet, Protocol):
    """What carries a session."""

    def say(self, message: bytes) -> None:
        """Write a message that is no event."""

    def close(self, code: int, reason: str) -> None: ...

    def hold(self, held: bool) -> None:
        """Stop or go on reading operations."""


class Session:
    """From the open connection to its end."""

    def __init__(self, desk: Desk, connection: Connection, session_id: str) -> None:
        self._desk = desk
        self._connection = connection
        self._id = session_id
        self._principal: Principal | None = None
        self._readers: dict[str, Reader] = {}
        self._running: set[Deferred[None]] = set()
        self._timer: DelayedCall | None = None
        self._ended = False

    # -- life ---------------------------------------------------------------------------------------------------------

    def opened(self, principal: Principal | None) -> None:
        """The connection stands; ``principal``: whom its handshake spoke for."""
        if principal is not None:
            self._welcome(principal)
        else:
            self._timer = self._desk.clock.callLater(HELLO_S, self._no_hello)

    def received(self, payload: bytes) -> None:
        """A message of the client. Operations begin in their order; those that wait do not hold up others."""
        try:
            operation = ops.decode(payload)
        except MsgdError as error:
            self._error(error, ops.ref_of(payload))
            return
        running = Deferred.fromCoroutine(self._perform(operation))
        if not running.called:
            self._running.add(running)
            running.addBoth(lambda _: self._performed(running))
            if len(self._running) == OPERATIONS:
                self._connection.hold(True)

    def ended(self) -> None:
        """The connection is gone."""
        self._ended = True
        self._set_timer(None)
        for running in list(self._running):
            running.cancel()
        for reader in self._readers.values():
            reader.stop()
        self._readers.clear()

    def drain(self, reconnect_in_s: float) -> None:
        """This process stops: have the client connect anew in so many seconds."""
        self._say("drain", {"reconnect_in": round(reconnect_in_s, 2)})
        self._connection.close(ops.DRAINING, "this server is stopping")

    # -- who ----------------------------------------------------------------------------------------------------------

    def _welcome(self, principal: Principal, ref: ops.Ref = None) -> None:
        self._take(principal)
        expires = format_time(int(principal.expires_s * 1000))
        fields = {"session": self._id, "sub": principal.sub, "expires": expires, "heartbeat": HEARTBEAT_S}
        self._say("welcome", fields, ref)

    def _take(self, principal: Principal) -> None:
        self._principal = principal
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
        self._say("expiring", {"in": round(left_s)})
        self._timer = self._desk.clock.callLater(left_s, self._expired)

    def _expired(self) -> None:
        self._connection.close(ops.BAD_TOKEN, "the token has expired")

    # -- operations ---------------------------------------------------------------------------------------------------

    def _performed(self, running: Deferred[None]) -> None:
        self._running.discard(running)
        if len(self._running) == OPERATIONS - 1 and not self._ended:
            self._connection.hold(False)

    async def _perform(self, operation: ops.AnyOperation) -> None:
        try:
            if self._principal is None and not isinstance(operation, (ops.Hello, ops.Ping)):
                raise Unauthenticated("say hello with a token first")
            await _PERFORM[type(operation)](self, operation)
        except CancelledError:
            pass
        except Unauthenticated as error:
            self._error(error, operation.ref)
            self._connection.close(ops.BAD_TOKEN, error.message)
        except MsgdError as error:
            self._error(error, operation.ref)
        except Exception:
            _log.failure("{op} failed", op=type(operation).__name__)
            self._error(HIDDEN, operation.ref)

    @property
    def _who(self) -> Principal:
        assert self._principal is not None
        return self._principal

    async def _hello(self, operation: ops.Hello) -> None:
        if self._principal is not None and not operation.token:
            return self._welcome(self._principal, operation.ref)
        await self._renew(operation.token)
        return self._welcome(self._who, operation.ref)

    async def _token(self, operation: ops.Token) -> None:
        await self._renew(operation.token)
        self._say("ok", {"expires": format_time(int(self._who.expires_s * 1000))}, operation.ref)

    async def _renew(self, token: str) -> None:
        principal = await self._desk.tokens.principal(token)
        if self._principal is not None and principal.sub != self._principal.sub:
            self._connection.close(ops.FORBIDDEN, "a connection stays its principal's")
            raise CancelledError
        self._take(principal)
        for pattern in [one for one in self._readers if not principal.may_read(one)]:
            if not await self._owns(pattern):
                self._drop(pattern)

    async def _owns(self, pattern: str) -> bool:
        try:
            await self._check_readable(pattern)
        except MsgdError:
            return False
        return True

    async def _subscribe(self, operation: ops.Subscribe) -> None:
        pattern = check_pattern(operation.topic)
        if pattern in self._readers:
            raise Conflict(f"this connection is subscribed to {pattern} already: unsubscribe first", where="topic")
        if len(self._readers) >= SUBSCRIPTIONS:
            raise Overloaded(f"a connection has at most {SUBSCRIPTIONS} subscriptions: use a pattern", where="topic")
        reader = Reader(self._desk.feed, pattern, self._connection, self._desk.clock)
        self._readers[pattern] = reader
        try:
            job = await self._check_readable(pattern)
            cursor = await reader.begin(operation.since)
        except BaseException:
            self._drop(pattern, reader)
            raise
        if self._readers.get(pattern) is not reader:
            return  # unsubscribed meanwhile
        self._say("subscribed", {"topic": pattern, "cursor": cursor}, operation.ref)
        if job is not None:
            self._say("state", {"topic": pattern, "job": job})
        reader.go()

    async def _check_readable(self, pattern: str) -> Mapping[str, Any] | None:
        """Raises Forbidden or NotFound; returns a job topic's snapshot."""
        job = pattern.removeprefix(JOB_PREFIX)
        if job != pattern and "." not in job and job not in "*#":
            return job_view(await self._desk.commands.job(self._who, job))
        self._who.require(self._who.may_read(pattern), f"subscribing to {pattern}")
        return None

    async def _unsubscribe(self, operation: ops.Unsubscribe) -> None:
        if operation.topic not in self._readers:
            raise InvalidInput(f"this connection is not subscribed to {operation.topic[:200]}", where="topic")
        self._drop(operation.topic)
        self._say("ok", {"topic": operation.topic}, operation.ref)

    def _drop(self, pattern: str, reader: Reader | None = None) -> None:
        """End a subscription (``reader``: if it is still this one)."""
        found = self._readers.get(pattern)
        if reader is not None:
            reader.stop()
        if found is not None and reader in (None, found):
            found.stop()
            del self._readers[pattern]

    async def _publish(self, operation: ops.Publish) -> None:
        request = EventRequest(topic=operation.topic, type=operation.type, data=operation.data, id=operation.id)
        (event,) = await self._desk.commands.publish(self._who, [request])
        self._say("ok", {"id": event}, operation.ref)

    async def _submit(self, operation: ops.Submit) -> None:
        request = JobRequest(
            type=operation.type,
            params=operation.params,
            key=operation.key,
            delay=operation.delay,
            priority=operation.priority,
        )
        self._say("ok", job_brief(await self._desk.commands.submit(self._who, request)), operation.ref)

    async def _cancel(self, operation: ops.Cancel) -> None:
        self._say("ok", job_brief(await self._desk.commands.cancel(self._who, operation.job)), operation.ref)

    async def _ping(self, operation: ops.Ping) -> None:
        self._say("ok", {}, operation.ref)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _say(self, op: str, fields: Mapping[str, Any], ref: ops.Ref = None) -> None:
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
        self._say("error", fields, ref)


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
    ops.Ping: Session._ping,
}
