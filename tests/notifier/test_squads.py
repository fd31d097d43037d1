"""Squads: one wave to many sockets, by the loop in C and by the one in Python; who is not as the others leaves."""

from __future__ import annotations

import os
import signal
import socket
from array import array
from collections.abc import Sequence
from errno import EAGAIN, EBADF, EPIPE
from threading import Thread
from typing import Any
from unittest import skipUnless

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import LiveEvent
from msgd.notifier import squads, wave
from msgd.notifier.items import Item, Stretch
from msgd.notifier.squads import SIZE, WAVE_BYTES, Squad, Squads


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

    def send(self, fds: Sequence[int], data: bytes) -> list[tuple[int, int]]:
        return list(type(self).send_each(array("i", fds), data))

    def test_all(self) -> None:
        """Each socket is sent the bytes."""
        pairs = [self.pair() for _ in range(200)]
        self.assertEqual(self.send([ours.fileno() for ours, _ in pairs], b"same"), [])
        self.assertEqual([theirs.recv(10) for _, theirs in pairs], [b"same"] * 200)

    def test_none(self) -> None:
        self.assertEqual(self.send([], b"same"), [])

    def test_full_and_broken(self) -> None:
        """A socket takes a part, or none, or its error is told; the others are sent all."""
        good, full, gone = (self.pair() for _ in range(3))
        closed = self.pair()[0]
        fd = closed.fileno()
        closed.close()
        gone[1].close()
        data = bytes(1 << 22)
        ((place, part),) = self.send([full[0].fileno()], data)
        self.assertEqual(place, 0)
        self.assertLess(0, part)
        self.assertLess(part, len(data))
        fds = [full[0].fileno(), gone[0].fileno(), good[0].fileno(), fd]
        self.assertEqual(self.send(fds, b"x"), [(0, -EAGAIN), (1, -EPIPE), (3, -EBADF)])
        self.assertEqual(good[1].recv(10), b"x")

    def test_some_of_many(self) -> None:
        """Among many it is told which have not taken it, in their order."""
        pairs = [self.pair() for _ in range(300)]
        gone = [7, 8, 40, 171, 299]
        for place in gone:
            pairs[place][1].close()
        rest = self.send([ours.fileno() for ours, _ in pairs], b"same")
        self.assertEqual(rest, [(place, -EPIPE) for place in gone])
        taken = [theirs.recv(10) for place, (_, theirs) in enumerate(pairs) if place not in gone]
        self.assertEqual(taken, [b"same"] * (300 - len(gone)))


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
        """What is no array and no bytes is refused, and nothing is sent."""
        ours, theirs = self.pair()
        wrong: list[tuple[Any, Any]] = [
            ([ours.fileno()], b"x"),
            (array("i", [ours.fileno()]), "text"),
            (ours.fileno(), b"x"),
        ]
        for fds, data in wrong:
            with self.subTest(fds=str(fds)):
                self.assertRaises(TypeError, wave.send_each, fds, data)
        self.assertRaises(BlockingIOError, theirs.recv, 10)

    def test_several_threads(self) -> None:
        """Two waves at once: one has help, and both are whole."""
        pairs = [[self.pair() for _ in range(400)] for _ in range(2)]
        threads = [
            Thread(
                target=lambda some: [self.send([ours.fileno() for ours, _ in some], b"same") for _ in range(20)],
                args=[some],
            )
            for some in pairs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({theirs.recv(100) for some in pairs for _, theirs in some}, {b"same" * 20})

    def test_after_fork(self) -> None:
        """A process that was forked has no second thread, and makes one of its own."""
        pairs = [self.pair() for _ in range(100)]
        fds = [ours.fileno() for ours, _ in pairs]
        self.assertEqual(self.send(fds, b"one"), [])
        child = os.fork()
        if not child:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            os._exit(sum(len(self.send(fds, b"two")) for _ in range(5)))
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual({theirs.recv(100) for _, theirs in pairs}, {b"one" + 5 * b"two"})


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


def items(*places: int, data: bytes = b"null") -> Stretch:
    """Events whose seq is a tenth of their pos."""
    return Stretch(
        [Item("e", LiveEvent("room.a", pos // 10, pos, str(pos), "said", "", 0, Raw(data))) for pos in places]
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

    def send_each(self, fds: array[int], data: bytes) -> list[tuple[int, int]]:
        self.waves.append(list(fds))
        return [(place, self.takes[fd]) for place, fd in enumerate(fds) if fd in self.takes]

    def test_together(self) -> None:
        """All are sent the same in one wave, and nobody is asked where it stands; who leaves knows."""
        self.assertEqual(list(self.squad.advance(items(20), set())), [])
        self.assertEqual(list(self.squad.advance(items(30, 40), set())), [])
        self.assertEqual(self.waves, [[1, 2, 3], [1, 2, 3]])
        self.assertEqual([member.stood for member in self.members], [None] * 3)
        first = self.members[0]
        self.squad.leave(first)
        self.assertEqual((first.stood, first.squad), ((40, 4), None))
        self.squad.advance(items(50), {1, 9})
        self.assertEqual(self.waves[-1], [2, 3])
        self.assertEqual(first.stood, (40, 4))

    def test_who_cannot(self) -> None:
        """Who has something waiting for its socket leaves with its place before, to be offered the events by itself."""
        second = self.members[1]
        self.assertEqual(list(self.squad.advance(items(20), {2, 9})), [second])
        self.assertEqual(self.waves, [[1, 3]])
        self.assertEqual(second.stood, (10, 1))

    def test_who_has_none(self) -> None:
        """Who has no socket that can be sent to does not join."""
        stranger = Member(-1)
        self.all.join(stranger, stranger.outlet, items(10))
        self.assertIs(stranger.squad, None)
        self.assertEqual(list(self.all.apart(dict.fromkeys([*self.members, stranger]))), [stranger])

    def test_what_waits(self) -> None:
        """What a socket does not take waits for it; so it has been shown."""
        self.takes = {1: 5, 3: -EAGAIN}
        self.squad.advance(items(20), set())
        data = items(20).frames("room.a")
        self.assertEqual([member.outlet.waits for member in self.members], [[(data, 5)], [], [(data, -EAGAIN)]])
        self.assertEqual((self.squad.pos, self.squad.seq), (20, 2))

    def test_other_events(self) -> None:
        """What does not follow, or is too large, is sent to nobody: all leave."""
        for found in (items(10), items(30), items(*range(20, 100_000, 10))):
            for member in self.all.apart(dict.fromkeys(self.members)):
                self.all.join(member, member.outlet, items(10))
            (squad,) = self.all
            self.assertEqual(set(squad.advance(found, set())), set(self.members))
            self.assertEqual({member.stood for member in self.members}, {(10, 1)})
        self.assertEqual(self.waves, [])

    def test_large_to_many(self) -> None:
        """What is large is sent to so many in one wave that others have their turn soon; of more, all leave."""
        large = items(20, data=b'"' + b"x" * 500_000 + b'"')
        most = WAVE_BYTES // len(large.frames("room.a"))
        self.assertLess(most, SIZE)
        for fd in range(4, most + 1):
            self.members.append(Member(fd))
            self.all.join(self.members[-1], self.members[-1].outlet, items(10))
        self.assertEqual(list(self.squad.advance(large, set())), [])
        self.assertEqual([len(wave) for wave in self.waves], [most])
        one_more = Member(most + 1)
        self.all.join(one_more, one_more.outlet, items(20))
        follows = items(30, data=b'"' + b"x" * 500_000 + b'"')
        self.assertEqual(set(self.squad.advance(follows, set())), {*self.members, one_more})
        self.assertEqual(len(self.waves), 1)
        self.assertEqual({member.stood for member in (*self.members, one_more)}, {(20, 2)})

    def test_failure(self) -> None:
        """After an error it is open what was sent: all are told."""
        self.patch(squads, "send_each", lambda fds, data: 1 // 0)
        self.assertRaises(ZeroDivisionError, self.squad.advance, items(20), set())
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
