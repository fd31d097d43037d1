"""Together, or one alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial import unittest

from msgd.work.solitude import Solitude


class SolitudeTests(unittest.TestCase):
    def test_alone_waits_for_those_inside(self) -> None:
        """One that must be alone enters when the last of the others has left, before those that came after it."""
        solitude = Solitude()
        self.successResultOf(solitude.enter(alone=False))
        self.successResultOf(solitude.enter(alone=False))
        alone = solitude.enter(alone=True)
        later = solitude.enter(alone=False)
        solitude.leave()
        self.assertNoResult(alone)
        solitude.leave()
        self.successResultOf(alone)
        self.assertNoResult(later)
        self.assertTrue(solitude.wanted)
        solitude.leave()
        self.successResultOf(later)
        self.assertFalse(solitude.wanted)

    def test_giving_up_lets_the_others_in(self) -> None:
        """When the one that wanted to be alone stops waiting, nobody is held up by it any longer."""
        solitude = Solitude()
        self.successResultOf(solitude.enter(alone=False))
        alone = solitude.enter(alone=True)
        later = solitude.enter(alone=False)
        alone.cancel()
        self.failureResultOf(alone, CancelledError)
        self.successResultOf(later)

    @given(st.lists(st.tuples(st.sampled_from(["enter", "alone", "leave", "give up"]), st.integers(0, 7)), max_size=60))
    def test_any_order(self, steps: list[tuple[str, int]]) -> None:
        """Never is anybody beside one that is alone, and when all have left, all have been inside."""
        solitude = Solitude()
        inside: list[bool] = []  # alone or not
        waiting: dict[Deferred[None], bool] = {}

        def entered(_: None, one: Deferred[None], alone: bool) -> None:
            waiting.pop(one, None)
            inside.append(alone)
            self.assertTrue(len(inside) == 1 or not any(inside), inside)

        def given_up(_: object, one: Deferred[None]) -> None:
            waiting.pop(one, None)

        for step, which in steps:
            if step in ("enter", "alone"):
                alone = step == "alone"
                one = solitude.enter(alone=alone)
                waiting[one] = alone
                one.addCallbacks(entered, given_up, callbackArgs=(one, alone), errbackArgs=(one,))
            elif step == "leave" and inside:
                inside.pop(which % len(inside))
                solitude.leave()
            elif step == "give up" and waiting:
                list(waiting)[which % len(waiting)].cancel()
        while inside:
            inside.pop()
            solitude.leave()
        self.assertEqual(waiting, {})
        self.assertFalse(solitude.wanted)
