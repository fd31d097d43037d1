"""The beat of the slices, without any."""

from __future__ import annotations

from functools import partial

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.beat import Beat


class BeatTests(SynchronousTestCase):
    """What is asked for, and when it is called."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.beat = Beat(self.clock, 1.0)
        self.called: list[tuple[str, float]] = []

    def ask(self, *names: str) -> None:
        for name in names:
            self.beat.at_next(partial(self.call, name))

    def call(self, name: str) -> None:
        self.called.append((name, self.clock.seconds()))

    def test_together(self) -> None:
        """What comes after a pause is called at once, but not within the call; what follows, together, in its order."""
        self.clock.advance(5.0)
        self.ask("a", "b")
        self.assertEqual(self.called, [])
        self.clock.advance(0.0)
        self.ask("c")
        self.clock.pump([0.25, 0.25])
        self.ask("d")
        self.clock.pump([0.25, 0.25, 1.0])
        self.assertEqual(self.called, [("a", 5.0), ("b", 5.0), ("c", 6.0), ("d", 6.0)])
        self.ask("e")
        self.clock.advance(0.0)
        self.assertEqual(self.called[4:], [("e", 7.0)])

    def test_asked_for_within_a_beat(self) -> None:
        """It is called at the next one."""
        self.beat.at_next(lambda: self.ask("a"))
        self.clock.advance(0.0)
        self.assertEqual(self.called, [])
        self.clock.advance(1.0)
        self.assertEqual(self.called, [("a", 1.0)])

    def test_one_that_fails(self) -> None:
        """The others are called all the same, and it is logged."""
        self.beat.at_next(lambda: 1 // 0)
        self.ask("a")
        self.clock.advance(0.0)
        self.assertEqual(self.called, [("a", 0.0)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_clock_that_is_set_back(self) -> None:
        """Nobody waits for longer than from one beat to the next."""
        self.clock.advance(100.0)
        self.ask("a")
        self.clock.advance(0.0)
        self.clock.rightNow = 10.0
        self.ask("b")
        self.clock.advance(1.0)
        self.assertEqual([name for name, _ in self.called], ["a", "b"])
