"""Readers of a topic to whom events are offered as one: all of a squad have been shown the same, and have idle sockets.

To ask a thousand readers one by one took nearly as much as the kernel takes to send to them: their objects are never
in the processor's cache. A squad keeps the place of all its members and their sockets, and sends in one wave what they
are due. Whoever is not as the others any more leaves it, with the place it has come to, and is offered events by itself
until it has caught up: who has something waiting for its socket, which the reactor tells of all at once; who is about
to be closed, which it must say by itself, before its descriptor can become another's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final, Generic, Protocol, TypeVar

from msgd.notifier.items import Stretch
from msgd.notifier.limits import BUFFER_BYTES
from msgd.notifier.wave import send_each

SIZE: Final = 512
"""Sockets in one wave: some milliseconds, in which nobody else has a turn."""

WAVE_BYTES: Final = 48 * 1024 * 1024
"""Sent to all sockets of one wave: the kernel copies them for each, which takes up to 10 ms. What is more, a large
event or hundreds of small ones at once, is shown singly, with a look at the time now and then."""


class Straight(Protocol):
    """An outlet that is a socket of its own."""

    def straight(self) -> int:
        """The descriptor that events can be sent to, in the plain form of their frames: now, and until the member
        leaves, whenever nothing waits to be written to it; -1: they are to be shown."""

    def sent(self, data: bytes, taken: int) -> None:
        """The socket has taken so many bytes of these (or it has failed: negative); the rest is to wait for it."""


class Member(Protocol):
    """A reader that can be in a squad."""

    squad: Squad[Any] | None

    @property
    def label(self) -> str:
        """How its outlet knows it."""

    def stands(self, pos: int, seq: int) -> None:
        """It has left its squad, and has been shown everything up to here."""

    def broke(self) -> None:
        """It is open what it was sent."""


M = TypeVar("M", bound=Member)


class Squad(Generic[M]):
    """Some readers of one topic."""

    __slots__ = ("_fds", "_label", "_sockets", "members", "pos", "seq")

    def __init__(self, label: str, pos: int, seq: int) -> None:
        """``pos``: they have been shown everything up to here; ``seq``: of the event shown last."""
        self.pos = pos
        self.seq = seq
        self._label = label
        self.members: dict[M, Straight] = {}
        self._sockets: dict[M, int] = {}  # their descriptors
        self._fds: array[int] | None = None  # the same for the loop, until somebody comes or goes

    def __len__(self) -> int:
        return len(self.members)

    def has_room(self, items: Stretch) -> bool:
        """For one more who has been shown everything up to the last of ``items``."""
        return self.pos == items.last and self.seq == items.last_seq and len(self.members) < SIZE

    def join(self, member: M, outlet: Straight) -> None:
        """``member`` has come as far as the squad, unless its outlet is none that can be sent to."""
        fd = outlet.straight()
        if fd >= 0:
            self.members[member] = outlet
            self._sockets[member] = fd
            self._fds = None
            member.squad = self

    def leave(self, member: M) -> None:
        """``member`` goes on by itself."""
        del self.members[member], self._sockets[member]
        self._fds = None
        member.squad = None
        member.stands(self.pos, self.seq)

    def dissolve(self) -> Sequence[M]:
        """All leave; who they were."""
        members = list(self.members)
        for member in members:
            self.leave(member)
        return members

    def advance(self, items: Stretch, waiting: Set[int]) -> Sequence[M]:
        """Send recorded events to all; returns those who have left, and are to be offered them by themselves.
        ``waiting``: descriptors that something else is to be written to first."""
        data = items.frames(self._label)
        follows = items.first > self.pos and items.first_seq == self.seq + 1
        if not follows or len(data) > BUFFER_BYTES or len(data) * len(self.members) > WAVE_BYTES:
            return self.dissolve()
        left: list[M] = []
        if not waiting.isdisjoint(self._sockets.values()):
            left = [member for member, fd in self._sockets.items() if fd in waiting]
            for member in left:
                self.leave(member)
        assert items.last_seq is not None  # recorded events have one
        self.pos, self.seq = items.last, items.last_seq
        if self._fds is None:
            self._fds = array("i", self._sockets.values())
        try:
            rest = send_each(self._fds, data)
            if rest:
                outlets = list(self.members.values())
                for place, taken in rest:
                    outlets[place].sent(data, taken)
        except Exception:  # whatever it was, what they were sent is not known: their clients are to come again
            for member in self.dissolve():
                member.broke()
            raise
        return left


class Squads(Generic[M]):
    """All squads of one group of listeners."""

    def __init__(self) -> None:
        self._all: list[Squad[M]] = []

    def __iter__(self) -> Iterator[Squad[M]]:
        """Those there are now, while others come and go."""
        self._all = [squad for squad in self._all if len(squad)]
        return iter(list(self._all))

    def apart(self, listeners: Mapping[M, None]) -> Sequence[M]:
        """Those of the listeners who are in no squad."""
        if not self._all:
            return list(listeners)
        # With the hashes that the dicts have: to look at each listener would take longer than all else.
        apart = set(listeners)
        for squad in self._all:
            apart.difference_update(squad.members)
        return list(apart)

    def join(self, member: M, outlet: Straight, items: Stretch) -> None:
        """``member`` has been shown ``items`` and all before, over an idle socket."""
        assert items.last_seq is not None  # recorded events have one
        squad = next((one for one in self._all if one.has_room(items)), None)
        if squad is None:
            squad = Squad(member.label, items.last, items.last_seq)
            self._all.insert(0, squad)  # where the next one looks first
        squad.join(member, outlet)

    def dissolve(self) -> None:
        """All go on by themselves."""
        for squad in self._all:
            squad.dissolve()
        self._all = []
