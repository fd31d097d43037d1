"""What one session reads, and of which topics it asks who is present: each with its right to go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgd.errors import Conflict, InvalidInput, MsgdError, Overloaded
from msgd.messages.topics import check_pattern, check_topic
from msgd.notifier import operations as ops
from msgd.notifier.attendance import Seat
from msgd.notifier.desk import Desk
from msgd.notifier.interface import Principal
from msgd.notifier.limits import SUBSCRIPTIONS
from msgd.notifier.presence.watch import Watch
from msgd.notifier.reader import Outlet, Reader
from msgd.notifier.views import job_view


class Talking(Outlet, Protocol):
    """An outlet that can be told other things than events."""

    def say(self, message: bytes) -> None:
        """Write a message that is no event."""


class Speaker(Protocol):
    """The session: it speaks for somebody, and to the client."""

    @property
    def who(self) -> Principal:
        """Whom it speaks for now."""

    def say(self, op: str, fields: Mapping[str, Any], ref: ops.Ref = None) -> None:
        """Tell the client something."""


class Interests:
    """The subscriptions and watches of one session. Operations raise MsgdError if they are refused."""

    __slots__ = ("_connection", "_desk", "_readers", "_seats", "_session", "_watches")

    def __init__(self, desk: Desk, connection: Talking, session: Speaker) -> None:
        self._desk = desk
        self._connection = connection
        self._session = session
        self._readers: dict[str, Reader] = {}
        self._seats: dict[str, Seat] = {}
        self._watches: dict[str, Watch] = {}

    def closing(self) -> None:
        """No more events are to be sent to the connection."""
        for reader in self._readers.values():
            reader.leave()

    def end(self) -> None:
        """The connection is gone."""
        for reader in self._readers.values():
            reader.stop()
        if self._readers:
            self._desk.allowances.unsubscribe(self._session.who, len(self._readers))
        self._readers.clear()
        for seat in list(self._seats.values()):
            seat.leave()
        for watch in list(self._watches.values()):
            watch.end()

    async def check(self) -> None:
        """The token is another, and may have fewer rights: end what it does not cover."""
        for pattern in [
            one for one in (*self._readers, *self._watches) if not self._desk.access.may_read(self._session.who, one)
        ]:
            try:
                await self._desk.access.check_read(self._session.who, pattern)
            except MsgdError as why:
                self._refused(pattern, why)

    def _refused(self, pattern: str, why: MsgdError) -> None:
        """What was allowed is so no more."""
        self._drop(pattern)
        self._end_watch(pattern)
        self._session.say("error", {"code": why.code, "message": why.message, "topic": pattern})

    # -- events -------------------------------------------------------------------------------------------------------

    async def subscribe(self, operation: ops.Subscribe) -> None:
        """Read a topic or pattern."""
        pattern = check_pattern(operation.topic)
        if pattern in self._readers:
            raise Conflict(f"this connection is subscribed to {pattern} already: unsubscribe first", where="topic")
        if len(self._readers) >= SUBSCRIPTIONS:
            raise Overloaded(f"a connection has at most {SUBSCRIPTIONS} subscriptions: use a pattern", where="topic")
        self._desk.allowances.subscribe(self._session.who)
        reader = Reader(self._desk.feed, [pattern], self._connection, self._desk.clock, sees=self._sees)
        self._readers[pattern] = reader
        try:
            job = await self._desk.access.check_read(self._session.who, pattern)
            self._seats[pattern] = self._desk.attendance.enter(
                pattern, lambda: self._session.who, lambda why: self._refused(pattern, why)
            )
            cursor = await reader.begin(operation.since)
            if job is not None:
                # Once more, so that nothing lies between the snapshot and the first event.
                job = await self._desk.access.check_read(self._session.who, pattern)
        except BaseException:  # a cancellation too: no reader stays behind
            self._drop(pattern, reader)
            raise
        if self._readers.get(pattern) is not reader:
            raise Conflict(f"the subscription to {pattern} was ended before it began", where="topic")
        self._session.say("subscribed", {"topic": pattern, "cursor": cursor}, operation.ref)
        if job is not None:
            self._session.say("state", {"topic": pattern, "job": job_view(job)})
        reader.go()

    def unsubscribe(self, operation: ops.Unsubscribe) -> None:
        """Read it no more, nor who is present there."""
        if operation.topic not in self._readers and operation.topic not in self._watches:
            raise InvalidInput(f"this connection is not subscribed to {operation.topic[:200]}", where="topic")
        self._drop(operation.topic)
        self._end_watch(operation.topic)
        self._session.say("ok", {"topic": operation.topic}, operation.ref)

    def _sees(self, topic: str) -> bool:
        return self._desk.access.sees(self._session.who, topic)

    def _drop(self, pattern: str, reader: Reader | None = None) -> None:
        """End a subscription (``reader``: if it is still this one)."""
        found = self._readers.get(pattern)
        if reader is not None:
            reader.stop()
        if found is not None and reader in (None, found):
            found.stop()
            del self._readers[pattern]
            self._desk.allowances.unsubscribe(self._session.who)
            seat = self._seats.pop(pattern, None)
            if seat is not None:
                seat.leave()

    # -- presence -----------------------------------------------------------------------------------------------------

    async def watch(self, operation: ops.Presence) -> None:
        """Tell who is present on a topic, now and whenever that changes."""
        topic = check_topic(operation.topic)
        self._desk.presence.check(topic)
        if topic not in self._watches and len(self._watches) >= SUBSCRIPTIONS:
            raise Overloaded(f"a connection asks of at most {SUBSCRIPTIONS} topics who is present", where="topic")
        await self._desk.access.check_read(self._session.who, topic)
        view = self._desk.presence.view(topic)
        self._session.say("presence", {"topic": topic, "members": view.members, "count": view.count}, operation.ref)
        if topic not in self._watches:
            seat = self._desk.attendance.enter(
                topic, lambda: self._session.who, lambda why: self._refused(topic, why), present=False
            )
            self._watches[topic] = Watch(self._desk.presence, topic, self._connection, seat)

    def _end_watch(self, topic: str) -> None:
        watch = self._watches.pop(topic, None)
        if watch is not None:
            watch.end()
