"""Who reads what by the doors of this notifier: presence is told of it, and who may no longer read is sent away."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from msgd.errors import Forbidden, MsgdError
from msgd.messages.topics import is_pattern
from msgd.notifier.access import Access
from msgd.notifier.interface import Principal
from msgd.notifier.presence.service import Presence
from msgd.notifier.rooms.interface import room_of, room_topic

_log = Logger()


class Attendance:
    """All readers of this notifier. A door takes a :class:`Seat` for each topic or pattern that it reads."""

    def __init__(self, access: Access, presence: Presence) -> None:
        self._access = access
        self._presence = presence
        self._in_rooms: dict[str, dict[Seat, None]] = {}
        access.rooms.listen(self._admission_changed)

    def enter(
        self,
        pattern: str,
        who: Callable[[], Principal],
        refused: Callable[[MsgdError], None],
        *,
        present: bool = True,
    ) -> Seat:
        """A door begins to read a topic or pattern, having checked that it may. ``who``: whom it speaks for now;
        ``refused`` is called, once, when that may read it no more: end the reading, and say why. ``present`` False: it
        only looks on."""
        seat = Seat(self, pattern, who, refused, who().sub if present and not is_pattern(pattern) else "")
        room = room_of(pattern)
        if room is not None:
            if not self._access.may_read(who(), pattern):  # what was checked may have changed meanwhile
                seat.left = True
                refused(_no_member(room))
                return seat
            self._in_rooms.setdefault(room, {})[seat] = None
        if seat.sub:
            self._presence.enter(pattern, seat.sub)
        return seat

    def _leave(self, seat: Seat) -> None:
        room = room_of(seat.pattern)
        if room is not None:
            seats = self._in_rooms[room]
            del seats[seat]
            if not seats:
                del self._in_rooms[room]
        if seat.sub:
            self._presence.leave(seat.pattern, seat.sub)

    def _admission_changed(self, room: str) -> None:
        for seat in list(self._in_rooms.get(room, ())):
            if not seat.left and not self._access.may_read(seat.who(), seat.pattern):
                try:
                    seat.refuse(_no_member(room))
                except Exception:  # one door's mistake must not keep the others open
                    _log.failure("a reader of {pattern} could not be sent away", pattern=seat.pattern)


class Seat:
    """One door's reading of one topic or pattern."""

    __slots__ = ("_attendance", "_refused", "left", "pattern", "sub", "who")

    def __init__(
        self,
        attendance: Attendance,
        pattern: str,
        who: Callable[[], Principal],
        refused: Callable[[MsgdError], None],
        sub: str,
    ) -> None:
        self._attendance = attendance
        self._refused = refused
        self.pattern = pattern
        self.who = who
        self.sub = sub  # who is present by it; "": nobody
        self.left = False

    def leave(self) -> None:
        """The door reads it no more. Twice is harmless."""
        if not self.left:
            self.left = True
            self._attendance._leave(self)

    def refuse(self, why: MsgdError) -> None:
        """End the reading from here."""
        self.leave()
        self._refused(why)


def _no_member(room: str) -> Forbidden:
    return Forbidden(f"{room_topic(room)} is private, and you are no member any more", where="topic")
