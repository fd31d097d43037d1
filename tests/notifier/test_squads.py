"""Squads: one wave to many sockets, by the loop in C and by the one in Python; who is not as the others leaves."""

from __future__ import annotations

import socket
from errno import EAGAIN, EBADF, EPIPE
from typing import Any
from unittest import skipUnless

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import LiveEvent
from msgd.notifier import squads, wave
from msgd.notifier.items import Item, Stretch
from msgd.notifier.squads import SIZE, Squad, Squads


class Loops:
    """What either loop does."""

    send_each: wave.SendEach
    addCleanup: Any
    assertEqual: Any
    assertLess: Any

    def pair(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        for one in (ours, theirs):
            one.setblocking(False)
            self.addCleanup(one.close)
        return ours, theirs

    def test_all(self) -> None:
        """Each socket is sent the bytes."""
        pairs = [self.pair() for _ in range(100)]
        self.assertEqual(list(type(self).send_each([ours.fileno() for ours, _ in pairs], b"same")), [4] * 100)
        self.assertEqual([theirs.recv(10) for _, theirs in pairs], [b"same"] * 100)

    def test_none(self) -> None:
        self.assertEqual(list(type(self).send_each([], b"same")), [])

    def test_full_and_broken(self) -> None:
        """A socket takes a part, or none, or its error is told; the others are sent all."""
        good, full, gone = (self.pair() for _ in range(3))
        closed = self.pair()[0]
        fd = closed.fileno()
        closed.close()
        gone[1].close()
        data = bytes(1 << 22)
        part = list(type(self).send_each([full[0].fileno()], data))
        self.assertLess(0, part[0])
        self.assertLess(part[0], len(data))
        fds = [full[0].fileno(), gone[0].fileno(), fd, good[0].fileno()]
        self.assertEqual(list(type(self).send_each(fds, b"x")), [-EAGAIN, -EPIPE, -EBADF, 1])
        self.assertEqual(good[1].recv(10), b"x")


class PythonLoopTest(Loops, SynchronousTestCase):
    """The one that is always there."""

    send_each = staticmethod(wave.send_in_python)


@skipUnless(
    wave.IN_C, "msgd was installed without a compiler: the loop in Python, which is tested too, takes its place"
)
class CLoopTest(Loops, SynchronousTestCase):
    """The one in C."""

    send_each = staticmethod(wave.send_each)

    def test_wrong(self) -> None:
        """What is no list of descriptors is refused, and nothing is sent."""
        ours, theirs = self.pair()
        wrong: list[Any] = [(ours.fileno(),), [ours.fileno(), -1], [ours.fileno(), 1 << 40], [ours.fileno(), "1"]]
        for fds in wrong:
            with self.subTest(fds=str(fds)):
                self.assertRaises((TypeError, ValueError, OverflowError), wave.send_each, fds, b"x")
        self.assertRaises(TypeError, wave.send_each, [ours.fileno()], "text")
        self.assertRaises(BlockingIOError, theirs.recv, 10)


class Outlet:
    """A socket by name."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waits: list[tuple[bytes, int]] = []

    def straight(self) -> int:
        return self.fd

    def sent(self, data: bytes, taken: int) -> None:
        self.waits.append((data, taken))


class Member:
    """A reader that knows where it stands."""

    def __init__(self, fd: int) -> None:
        self.label = "room.a"
        self.squad: Squad[Any] | None = None
        self.outlet = Outlet(fd)
        self.stood: tuple[int, int] | None = None
        self.is_broken = False

    def stands(self, pos: int, seq: int) -> None:
        self.stood = (pos, seq)

    def broke(self) -> None:
        self.is_broken = True


def items(*places: int) -> Stretch:
    """Events whose seq is a tenth of their pos."""
    return Stretch(
        [Item("e", LiveEvent("room.a", pos // 10, pos, str(pos), "said", "", 0, Raw(b"null"))) for pos in places]
    )


class SquadTest(SynchronousTestCase):
    """Three readers, and what their sockets take."""

    def setUp(self) -> None:
        self.takes: dict[int, int] = {}
        self.waves: list[list[int]] = []
        self.patch(squads, "send_each", self.send_each)
        self.members = [Member(fd) for fd in (1, 2, 3)]
        self.all: Squads[Member] = Squads()
        for member in self.members:
            self.all.join(member, member.outlet, items(10))
        (self.squad,) = self.all

    def send_each(self, fds: list[int], data: bytes) -> list[int]:
        self.waves.append(list(fds))
        return [self.takes.get(fd, len(data)) for fd in fds]

    def test_together(self) -> None:
        """All are sent the same in one wave, and nobody is asked where it stands; who leaves knows."""
        self.assertEqual(list(self.squad.advance(items(20))), [])
        self.assertEqual(list(self.squad.advance(items(30, 40))), [])
        self.assertEqual(self.waves, [[1, 2, 3], [1, 2, 3]])
        self.assertEqual([member.stood for member in self.members], [None] * 3)
        first = self.members[0]
        self.squad.leave(first)
        self.assertEqual((first.stood, first.squad), ((40, 4), None))
        self.squad.advance(items(50))
        self.assertEqual(self.waves[-1], [2, 3])
        self.assertEqual(first.stood, (40, 4))

    def test_who_cannot(self) -> None:
        """Who has no idle socket leaves with its place before, to be offered the events by itself."""
        second = self.members[1]
        second.outlet.fd = -1
        self.assertEqual(list(self.squad.advance(items(20))), [second])
        self.assertEqual(self.waves, [[1, 3]])
        self.assertEqual(second.stood, (10, 1))

    def test_what_waits(self) -> None:
        """What a socket does not take waits for it; so it has been shown."""
        self.takes = {1: 5, 3: -EAGAIN}
        self.squad.advance(items(20))
        data = items(20).frames("room.a")
        self.assertEqual([member.outlet.waits for member in self.members], [[(data, 5)], [], [(data, -EAGAIN)]])
        self.assertEqual((self.squad.pos, self.squad.seq), (20, 2))

    def test_other_events(self) -> None:
        """What does not follow, or is too large, is sent to nobody: all leave."""
        for found in (items(10), items(30), items(*range(20, 100_000, 10))):
            for member in self.all.apart(dict.fromkeys(self.members)):
                self.all.join(member, member.outlet, items(10))
            (squad,) = self.all
            self.assertEqual(set(squad.advance(found)), set(self.members))
            self.assertEqual({member.stood for member in self.members}, {(10, 1)})
        self.assertEqual(self.waves, [])

    def test_failure(self) -> None:
        """After an error it is open what was sent: all are told."""
        self.patch(squads, "send_each", lambda fds, data: 1 // 0)
        self.assertRaises(ZeroDivisionError, self.squad.advance, items(20))
        self.assertEqual([(member.is_broken, member.squad) for member in self.members], [(True, None)] * 3)

    def test_many(self) -> None:
        """A squad has a bounded size; who has left may join again, and the empty ones go."""
        more = [Member(fd) for fd in range(4, SIZE + 4)]
        for member in more:
            self.all.join(member, member.outlet, items(10))
        self.assertEqual(sorted(len(squad) for squad in self.all), [3, SIZE])
        everyone = dict.fromkeys([*self.members, *more])
        self.assertEqual(list(self.all.apart(everyone)), [])
        gone = more[0]
        assert gone.squad is not None
        gone.squad.leave(gone)
        self.assertEqual(list(self.all.apart(everyone)), [gone])
        self.all.join(gone, gone.outlet, items(10))
        self.assertEqual(sum(len(squad) for squad in self.all), len(everyone))
        self.assertLessEqual(max(len(squad) for squad in self.all), SIZE)
        self.all.dissolve()
        self.assertEqual(set(self.all.apart(everyone)), set(everyone))
        self.assertEqual(list(self.all), [])
