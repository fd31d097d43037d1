"""The door for long-polls: one answer, as soon as there is something to say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Raw
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as TimedOut

from msgd.errors import MsgdError, Unauthenticated, Unavailable
from msgd.journal.interface import Gap
from msgd.notifier import operations as ops
from msgd.notifier.admission import Admission
from msgd.notifier.desk import Desk
from msgd.notifier.interface import Answer, Principal, answer
from msgd.notifier.items import Item
from msgd.notifier.reader import Reader
from msgd.notifier.views import page_view


class LongPolls:
    """Answers them from the feed: a herd that waits for one event costs the database nothing when it comes."""

    def __init__(self, desk: Desk, admission: Admission) -> None:
        self._desk = desk
        self._admission = admission

    async def wait(
        self, who: Principal, patterns: Sequence[str], since: str | None, *, limit: int, seconds: float
    ) -> Answer:
        """What lies after ``since`` (None: after now), at most ``limit`` events; nothing, when the time is up."""
        desk = self._desk
        desk.doors.check_room(who)
        poll = LongPoll(who, limit, desk.clock)
        sees = partial(desk.access.sees, who)
        reader = Reader(desk.feed, patterns, poll, desk.clock, sees=sees, caught_up=poll.caught_up)
        # A token counts until its end, and no longer because its owner waits.
        left_s = 0.0 if self._admission.closed else max(0.0, who.expires_s - desk.clock.seconds())
        desk.doors.add(poll)
        seats = [desk.attendance.enter(pattern, lambda: poll.principal, poll.refuse) for pattern in patterns]
        try:
            place = await reader.begin(since)
            poll.reads_by(reader)
            reader.go()
            await poll.said(min(seconds, left_s))
            return answer(poll.page(place))
        finally:
            reader.stop()
            for seat in seats:
                seat.leave()
            desk.doors.remove(poll)


class LongPoll:
    """One of them. Conforms to :class:`~msgd.notifier.reader.Outlet` and to :class:`~msgd.notifier.doors.OpenDoor`."""

    def __init__(self, principal: Principal, limit: int, clock: Any) -> None:
        self.principal = principal
        self._items: list[Item] = []
        self._gaps: list[Gap] = []
        self._reader: Reader | None = None
        self._limit = limit
        self._clock = clock
        self._error: MsgdError | None = None
        self._said = False
        self._waiting: Deferred[None] | None = None

    def reads_by(self, reader: Reader) -> None:
        """This one knows its place."""
        self._reader = reader

    @property
    def waits(self) -> bool:
        """Whether there is nothing to be said, and what comes will be told."""
        return self._reader is not None and self._reader.live and not self._said

    def page(self, place: str) -> dict[str, Any]:
        """The answer; ``place``: where it began, should the journal not have said where it is now."""
        assert self._reader is not None
        events = [Raw(item.view()) for item in self._items]
        return page_view(events, self._reader.cursor or place, self._said and not self._reader.live, self._gaps)

    async def said(self, seconds: float) -> None:
        """Returns when there is something to answer, or the time is up. Raises what ended it otherwise."""
        if not self._said:
            self._waiting = Deferred()
            self._waiting.addTimeout(seconds, self._clock)
            try:
                await self._waiting
            except TimedOut:
                pass
            finally:
                self._waiting = None
        if self._error is not None:
            raise self._error

    def _say(self) -> None:
        """There is something. The answer waits until whoever tells us has told all: gaps, then events."""
        if not self._said:
            self._said = True
            self._clock.callLater(0, self._wake)

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.callback(None)

    # -- as an outlet -------------------------------------------------------------------------------------------------

    def drained(self) -> Deferred[None]:
        return Deferred() if self._said else succeed(None)  # no more is wanted

    def straight(self) -> int:
        return -1

    def sent(self, data: bytes, taken: int) -> None:
        """Not called: nothing goes straight."""

    def show(self, label: str, items: Sequence[Item]) -> int:
        if not items[0].pos:
            return len(items)  # transient: not part of a page
        taken = items[: self._limit - len(self._items)]
        self._items += taken
        self._say()
        return len(taken)

    def gap(self, label: str, gap: Gap, cursor: str = "") -> None:
        # Not the whole answer: the cursor passes what was erased in the middle of a history by what comes after it.
        self._gaps.append(gap)

    def caught_up(self) -> None:
        """There is nothing more to be read."""
        if self._gaps:
            self._say()

    def broke(self, label: str) -> None:
        self._error = Unavailable("reading on broke: ask again")
        self._say()

    # -- as an open door ----------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        self._error = Unauthenticated(reason) if code >= ops.PROTOCOL else Unavailable(reason)
        self._say()

    def refuse(self, why: MsgdError) -> None:
        """One of its topics may be read no more."""
        self._error = why
        self._say()

    def drain(self, reconnect_in_s: float) -> None:
        """Answered with what there is; its connection ends with the answer."""
        self._say()
