"""Heartbeats of WebSockets: one timer for all; who is slow is not taken for dead."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.notifier.heartbeat import Heartbeats
from msgd.notifier.limits import HEARTBEAT_S, PONG_S
from msgd.notifier.websocket import FULL_BEATS, SocketConnection


class Noted:
    """Notes when it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.beats: list[float] = []
        self.checks: list[float] = []

    def beat(self) -> None:
        self.beats.append(self.clock.seconds())

    def check(self) -> None:
        self.checks.append(self.clock.seconds())


class HeartbeatsTest(SynchronousTestCase):
    """Turns."""

    def test_turns(self) -> None:
        """Each is asked once a period, and looked at when it has had its time; by one timer, which ends with them."""
        clock = Clock()
        heartbeats = Heartbeats(clock)
        ones = [Noted(clock) for _ in range(2 * HEARTBEAT_S)]
        for one in ones:
            heartbeats.add(one)
            self.assertEqual(len(clock.getDelayedCalls()), 1)
        for _ in range(4 * HEARTBEAT_S):
            clock.advance(1)
        for one in ones:
            self.assertLessEqual(one.beats[0], HEARTBEAT_S)
            self.assertEqual({b - a for a, b in zip(one.beats, one.beats[1:], strict=False)}, {HEARTBEAT_S})
            self.assertLessEqual({beat + PONG_S for beat in one.beats[:3]}, set(one.checks))
        at_once = max(sum(beat == second for one in ones for beat in one.beats) for second in range(100))
        self.assertEqual(at_once, 2)
        for one in ones:
            heartbeats.remove(one)
            heartbeats.remove(one)
        self.assertEqual(clock.getDelayedCalls(), [])


class _Writer:
    """What has not been taken is said by the test."""

    pending = 0

    def write(self, data: bytes) -> None:
        """Not looked at."""


class SignsOfLifeTest(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        make: Any = SocketConnection
        self.connection = make()
        self.connection.state = self.connection.STATE_OPEN
        self.connection._writer = self.writer = _Writer()
        self.cut = False
        self.connection.dropConnection = self.dropped

    def dropped(self, abort: bool) -> None:
        self.cut = True

    def beat(self, pending: int) -> None:
        """A heartbeat, after which so many bytes have not been taken."""
        self.connection.beat()
        self.writer.pending = pending
        self.connection.check()

    def test_silent(self) -> None:
        """A client that neither answers nor takes anything is cut off."""
        self.beat(0)
        self.assertTrue(self.cut)

    def test_answers(self) -> None:
        """Any sign of life counts."""
        for sign in (self.connection.onPong, lambda payload: self.connection.onMessage(payload, False)):
            self.connection.beat()
            sign(b"")
            self.connection.check()
        self.assertFalse(self.cut)

    def test_slow(self) -> None:
        """One that takes some of what is before the ping is alive, however long it takes."""
        self.writer.pending = 100
        for left in range(99, 50, -1):
            self.beat(left)
        self.assertFalse(self.cut)
        self.beat(51)
        self.assertTrue(self.cut)

    def test_full(self) -> None:
        """One whose buffer is full has longer; one that takes nothing all the time is cut off too."""
        self.connection.pauseProducing()
        for _ in range(FULL_BEATS - 1):
            self.beat(5)
        self.assertFalse(self.cut)
        self.beat(5)
        self.assertTrue(self.cut)
