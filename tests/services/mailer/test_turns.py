"""Turns: equal parts of the time, whoever is slow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.turns import Line, Turns

TURN_S = 0.05
MOST = 32


class TurnTests(SynchronousTestCase):
    """Lines of things that take some time each, and one press that makes them."""

    def lines(self, *lengths: int) -> tuple[Turns[Line[int]], list[Line[int]]]:
        turns: Turns[Line[int]] = Turns()
        made: list[Line[int]] = [Line() for _ in lengths]
        for line, length in zip(made, lengths, strict=True):
            turns.join(line)
            for number in range(length):
                turns.put(line, number)
        return turns, made

    @given(st.lists(st.floats(0.0001, 5.0), min_size=2, max_size=5))
    def test_equal_parts(self, each_s: list[float]) -> None:
        """Of lines that never end each has as much time as the others, but for one of the slowest and one turn."""
        turns, lines = self.lines(*[2000] * len(each_s))
        had_s = [0.0] * len(each_s)
        while all(line.waiting for line in lines) and max(had_s) < 60.0:
            line = turns.next(0.0)
            assert line is not None
            at = lines.index(line)
            for _ in line.take(MOST, TURN_S):
                line.took(each_s[at])
                had_s[at] += each_s[at]
        if all(line.waiting for line in lines):
            # What is not known yet is taken for FIRST_EACH_S: so much is had before it is learnt.
            self.assertLessEqual(max(had_s) - min(had_s), 2 * max(each_s) + 4 * TURN_S)

    def test_a_slow_one_is_taken_alone(self) -> None:
        """As many are taken as should take a turn: of fast ones many, of slow ones one."""
        turns, (fast, slow) = self.lines(1000, 1000)
        self.assertEqual((len(fast.take(MOST, TURN_S)), len(slow.take(MOST, TURN_S))), (1, 1))
        fast.took(0.0001)
        slow.took(2.0)
        for _ in range(20):
            for _ in fast.take(MOST, TURN_S):
                fast.took(0.0001)
            self.assertEqual(len(slow.take(MOST, TURN_S)), 1)
            slow.took(2.0)
        self.assertEqual(len(fast.take(MOST, TURN_S)), MOST)
        self.assertIs(turns.next(0.0), fast)

    def test_nothing_is_saved_up(self) -> None:
        """Who had nothing to do for a while gets no more for that than who comes anew."""
        turns, (busy, idle) = self.lines(1000, 0)
        for _ in range(100):
            self.assertIs(turns.next(0.0), busy)
            busy.take(1, TURN_S)
            busy.took(1.0)
        turns.put(idle, 1)
        turns.put(idle, 2)
        self.assertGreater(idle.had_s, 90.0)
        self.assertIs(turns.next(0.0), idle)
        idle.take(1, TURN_S)
        idle.took(3.0)
        self.assertIs(turns.next(0.0), busy)

    def test_held(self) -> None:
        """Who is held comes after all others, also those that have nothing waiting now; but nobody waits for nobody."""
        turns, (bad, good) = self.lines(2, 0)
        bad.held_until_s = 5.0
        self.assertEqual((turns.next(4.9), turns.held_until_s), (None, 5.0))
        turns.put(good, 1)
        self.assertIs(turns.next(4.9), good)
        good.take(1, TURN_S)
        self.assertIs(turns.next(5.0), bad)
        turns.leave(good)
        self.assertIs(turns.next(4.9), bad)

    @given(st.lists(st.sampled_from(["put", "take", "took", "back", "drop"]), max_size=60))
    def test_nothing_is_lost(self, steps: list[str]) -> None:
        """What waits, what is in hand and what is over is together what was put in, in order."""
        turns, (line,) = self.lines(0)
        held: list[int] = []
        put = over = 0
        for step in steps:
            if step == "put":
                turns.put(line, put)
                put += 1
            elif step == "take" and turns.next(0.0) is line:
                held += line.take(3, TURN_S)
            elif held and step == "took":
                line.took(0.001)
                self.assertEqual(held.pop(0), over)
                over += 1
            elif held and step == "back":
                line.put_back(held.pop())
            elif held and step == "drop":
                line.drop()
                self.assertEqual(held.pop(0), over)
                over += 1
            self.assertEqual(line.in_hand, len(held))
            self.assertEqual([*held, *line.waiting], list(range(over, put)))
