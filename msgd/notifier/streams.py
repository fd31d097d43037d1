"""The door for event streams (HTML standard, "Server-sent events"): what a WebSocket shows, over plain HTTP.

Several topics and patterns come on one stream, under one cursor. An event is unnamed, and its ``id`` is the cursor
after it; all other messages are named by their ``op`` (DESIGN §4.4).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from msgd.clock import DelayedCall
from msgd.errors import InvalidInput, MsgdError, RateLimited, Unavailable
from msgd.journal.interface import Gap
from msgd.messages.cursors import parse_cursor
from msgd.messages.topics import job_of
from msgd.notifier import operations as ops
from msgd.notifier import sse
from msgd.notifier.admission import Admission
from msgd.notifier.attendance import Seat
from msgd.notifier.backlog import Backlog
from msgd.notifier.desk import Desk
from msgd.notifier.interface import Answer, Call, Principal, Push, Reply
from msgd.notifier.items import Item, Stretch
from msgd.notifier.limits import EXPIRING_S, HEARTBEAT_S, RETRY_MS, STALL_S
from msgd.notifier.reader import Reader
from msgd.notifier.views import gap_view, job_view

_log = Logger()

HEADERS: Final[Mapping[str, str]] = {
    # Without "no-transform" compressing proxies hold back what is too little to compress.
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # nginx: pass on what comes, as it comes
}

_TCP_USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)
"""How long what was sent may stay unacknowledged (RFC 5482); Linux has it."""


def wants_stream(accept: str) -> bool:
    """Whether an ``Accept`` header prefers an event stream to JSON (RFC 9110 §12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    stream = weights.get(sse.CONTENT_TYPE, 0.0)
    return stream > 0 and stream >= weights.get("application/json", 0.0)


class Placed(Protocol):
    """Whoever knows how far a stream has come."""

    @property
    def cursor(self) -> str:
        """ "" while that is not known."""


class EventStreams:
    """Opens them."""

    def __init__(self, desk: Desk, admission: Admission, random: Callable[[], float]) -> None:
        """``random``: 0 to 1, to spread reconnects."""
        self._desk = desk
        self._admission = admission
        self._random = random

    async def open(self, call: Call, patterns: Sequence[str]) -> Reply:
        """The stream of these topics and patterns."""
        for name in ("before", "limit", "wait"):
            if call.text(name):
                raise InvalidInput(f"{name} is for pages, not for event streams", where=name)
        since = call.header("last-event-id") or call.text("since") or None
        if since is not None:
            parse_cursor(since)
        try:
            self._admission.admit()
            for pattern in patterns:
                await self._desk.access.check_read(call.principal, pattern)
            self._desk.doors.check_room(call.principal)
        except (RateLimited, Unavailable) as full:
            return _come_again(full)
        return Push(
            run=partial(self._run, call.principal, patterns, since), content_type=sse.CONTENT_TYPE, headers=HEADERS
        )

    async def _run(self, who: Principal, patterns: Sequence[str], since: str | None, request: Any) -> None:
        """From the stream's first byte to its end."""
        desk = self._desk
        stream = EventStream(request, who, desk.clock)
        reader = Reader(desk.feed, patterns, stream, desk.clock, sees=partial(desk.access.sees, who))
        desk.doors.add(stream)
        seats: list[Seat] = []
        try:
            stream.open(int(RETRY_MS * (1 + self._random())))
            cursor = await reader.begin(since)
            for pattern in patterns:
                stream.say("subscribed", {"topic": pattern, "cursor": cursor}, cursor)
                if job_of(pattern) is not None:
                    # Looked at now, so that nothing lies between the snapshot and the first event.
                    job = await desk.access.check_read(who, pattern)
                    if job is not None:
                        stream.say("state", {"topic": pattern, "job": job_view(job)})
                seats.append(desk.attendance.enter(pattern, lambda: stream.principal, partial(stream.refuse, pattern)))
            stream.reads_by(reader)
            reader.go()
            await stream.over
        finally:
            reader.stop()
            for seat in seats:
                seat.leave()
            desk.doors.remove(stream)
            stream.end()


class EventStream:
    """One of them. Conforms to :class:`~msgd.notifier.reader.Outlet` and to :class:`~msgd.notifier.doors.OpenDoor`; a
    push producer to its request."""

    def __init__(self, request: Any, principal: Principal, clock: Any) -> None:
        self.principal = principal
        self.over: Deferred[None] = Deferred()
        self._request = request
        self._transport = request.channel.transport
        self._clock = clock
        self._backlog = Backlog()
        self._reader: Placed | None = None
        self._place = ""  # the client's, as far as we have told it
        self._heartbeat: DelayedCall | None = None
        self._expiry: DelayedCall | None = None
        self._stall: DelayedCall | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def open(self, retry_ms: int) -> None:
        """Write the first bytes; ``retry_ms``: what the client is to wait before it connects anew."""
        _expect_acks(self._transport)
        self._request.registerProducer(self, True)
        self._write(b": msgd\n" + sse.retry(retry_ms))
        self._heartbeat = self._clock.callLater(HEARTBEAT_S, self._beat)
        left_s = self.principal.expires_s - self._clock.seconds()
        self._expiry = self._clock.callLater(max(0.0, left_s - EXPIRING_S), self._expiring)

    def reads_by(self, reader: Placed) -> None:
        """This one knows its place."""
        self._reader = reader

    def end(self) -> None:
        """Write no more. Twice is harmless."""
        for timer in (self._heartbeat, self._expiry, self._stall):
            if timer is not None and timer.active():
                timer.cancel()
        self._heartbeat = self._expiry = self._stall = None
        self._finish()
        self._backlog.end()
        if not self._request._disconnected:
            self._request.unregisterProducer()

    def _finish(self) -> None:
        if not self.over.called:
            self.over.callback(None)

    def _beat(self) -> None:
        """Tell proxies and the client that we are there, and the client where it is."""
        self._heartbeat = self._clock.callLater(HEARTBEAT_S, self._beat)
        if self._backlog.full:
            return
        place = self._reader.cursor if self._reader is not None else ""
        if place and place != self._place:
            self._place = place
            self._write(sse.HEARTBEAT + sse.place(place))
        else:
            self._write(sse.HEARTBEAT)

    def _expiring(self) -> None:
        left_s = max(0.0, self.principal.expires_s - self._clock.seconds())
        self.say("expiring", {"in": round(left_s)})
        self._expiry = self._clock.callLater(left_s, self._expired)

    def _expired(self) -> None:
        self.say("expired", {})
        self._finish()

    # -- as an open door ----------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        self.say("close", {"code": code, "reason": reason})
        self._finish()

    def refuse(self, pattern: str, why: MsgdError) -> None:
        """One of its topics may be read no more. Whoever wants the others opens a stream of them."""
        self.say("error", {"code": why.code, "message": why.message, "topic": pattern})
        self.close(ops.FORBIDDEN, why.message)

    def drain(self, reconnect_in_s: float) -> None:
        self._write(farewell(reconnect_in_s))
        self._finish()

    # -- as an outlet -------------------------------------------------------------------------------------------------

    def drained(self) -> Deferred[None]:
        return self._backlog.drained()

    def straight(self) -> int:
        return -1

    def sent(self, data: bytes, taken: int) -> None:
        """Not called: nothing goes straight."""

    def show(self, label: str, items: Sequence[Item]) -> int:
        if self.over.called:
            return 0
        if type(items) is Stretch and len(items.sse()) <= self._backlog.room:
            self._write(items.sse())  # joined once for all streams
            return len(items)
        blocks = self._backlog.fitting(item.sse() for item in items)
        if blocks:
            self._write(blocks[0] if len(blocks) == 1 else b"".join(blocks))
        return len(blocks)

    def gap(self, label: str, gap: Gap, cursor: str = "") -> None:
        self.say("gap", gap_view(gap), cursor)

    def broke(self, label: str) -> None:
        self.close(ops.BROKEN, "the stream broke: connect anew")

    def say(self, op: str, fields: Mapping[str, Any], cursor: str = "") -> None:
        """Write a message that is no event; ``cursor``: the client's place from here on, if that changes."""
        if cursor:
            self._place = cursor
        self._write(sse.block(ops.message(op, fields), name=op, cursor=cursor))

    def _write(self, data: bytes) -> None:
        if self.over.called or self._request._disconnected:
            return
        self._request.write(data)
        self._backlog.wrote(len(data))

    # -- the connection's side ----------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The socket's buffer is full."""
        self._backlog.pause()
        if self._stall is None:
            self._stall = self._clock.callLater(STALL_S, self._transport.abortConnection)

    def resumeProducing(self) -> None:
        """Everything has been written."""
        stall, self._stall = self._stall, None
        if stall is not None and stall.active():
            stall.cancel()
        self._backlog.resume()

    def stopProducing(self) -> None:
        """The client is gone; its request's ``notifyFinish`` cancels us."""


def farewell(reconnect_in_s: float) -> bytes:
    """Sends a client away for so many seconds."""
    seconds = round(reconnect_in_s, 2)
    return sse.retry(round(seconds * 1000)) + sse.block(ops.message("drain", {"reconnect_in": seconds}), name="drain")


def _come_again(why: MsgdError) -> Answer:
    """What is said to a client that cannot be let in now. Neither 429 nor 503: browsers take any other status than 200
    for the end, and never connect anew (HTML standard §9.2.2)."""
    seconds = why.retry_after or 0.0
    error = ops.message("error", {"code": why.code, "message": why.message, "retry_after": seconds})
    body = sse.block(error, name="error") + farewell(seconds)
    return Answer(body=body, content_type=sse.CONTENT_TYPE, headers=HEADERS)


def _expect_acks(transport: Any) -> None:
    """Have a client that vanished without a word found out by its first unacknowledged heartbeat, and not after the
    quarter of an hour for which TCP tries by itself."""
    if _TCP_USER_TIMEOUT is not None and getattr(transport, "socket", None) is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(STALL_S * 1000))
