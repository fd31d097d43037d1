"""Readers of a topic to whom events are offered as one: all of a squad have been shown the same, and have idle sockets.

To ask a thousand readers one by one took nearly as much as the kernel takes to send to them: their objects are never
in the processor's cache. A squad keeps the place of all its members, and sends in one wave what they are due. Whoever
is not as the others any more leaves it, with the place it has come to, and is offered events by itself until it has
caught up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from msgd.notifier.items import Stretch
from msgd.notifier.limits import BUFFER_BYTES
from msgd.notifier.wave import send_each

SIZE: Final = 64
"""Sockets in one wave: half a millisecond, in which nobody else has a turn."""


class Straight(Protocol):
    """An outlet that is a socket of its own."""

    def straight(self) -> int:
        """The descriptor that events can be sent to in this very moment, in the plain form of their frames; -1: they
        are to be shown."""

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

    __slots__ = ("_label", "members", "pos", "seq")

    def __init__(self, label: str, pos: int, seq: int) -> None:
        """``pos``: they have been shown everything up to here; ``seq``: of the event shown last."""
        self.pos = pos
        self.seq = seq
        self._label = label
        self.members: dict[M, Straight] = {}

    def __len__(self) -> int:
        return len(self.members)

    def has_room(self, items: Stretch) -> bool:
        """For one more who has been shown everything up to the last of ``items``."""
        return self.pos == items.last and self.seq == items.last_seq and len(self.members) < SIZE

    def join(self, member: M, outlet: Straight) -> None:
        """``member`` has come as far as the squad."""
        self.members[member] = outlet
        member.squad = self

    def leave(self, member: M) -> None:
        """``member`` goes on by itself."""
        del self.members[member]
        member.squad = None
        member.stands(self.pos, self.seq)

    def dissolve(self) -> Sequence[M]:
        """All leave; who they were."""
        members = list(self.members)
        for member in members:
            self.leave(member)
        return members

    def advance(self, items: Stretch) -> Sequence[M]:
        """Send recorded events to all; returns those who have left, and are to be offered them by themselves."""
        data = items.frames(self._label)
        follows = items.first > self.pos and items.first_seq == self.seq + 1
        if not follows or len(data) > BUFFER_BYTES:
            return self.dissolve()
        left: list[M] = []
        outlets: list[Straight] = []
        fds: list[int] = []
        for member, outlet in self.members.items():
            fd = outlet.straight()
            if fd < 0:
                left.append(member)
            else:
                outlets.append(outlet)
                fds.append(fd)
        for member in left:
            self.leave(member)
        assert items.last_seq is not None  # recorded events have one
        self.pos, self.seq = items.last, items.last_seq
        try:
            taken = send_each(fds, data)
            if taken.count(len(data)) < len(fds):
                self._wait(outlets, taken, data)
        except Exception:  # whatever it was, what they were sent is not known: their clients are to come again
            for member in self.dissolve():
                member.broke()
            raise
        return left

    def _wait(self, outlets: Sequence[Straight], taken: Sequence[int], data: bytes) -> None:
        """What some sockets have not taken waits for them."""
        for outlet, size in zip(outlets, taken, strict=True):
            if size < len(data):
                outlet.sent(data, size)


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
