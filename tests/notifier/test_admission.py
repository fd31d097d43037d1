"""Who is let in, and how fast."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import Overloaded, Unavailable
from msgd.notifier.admission import Admission
from msgd.notifier.limits import HERD_SPREAD_S


class Herd:
    """Clients of one admission, who come when a test says so."""

    def __init__(self, rate: float) -> None:
        self.clock = Clock()
        self.admission = Admission(rate, self.clock, lambda: 0.5)

    def comes(self, wait_s: float = 0.0) -> bool:
        """Whether one who comes after so many seconds is let in."""
        self.clock.advance(wait_s)
        try:
            self.admission.admit()
        except Overloaded:
            return False
        return True


class PaceTest(SynchronousTestCase):
    @given(st.floats(1, 1000), st.lists(st.floats(0, 2), min_size=1, max_size=200))
    def test_never_faster(self, rate: float, waits: list[float]) -> None:
        """In any stretch of time no more pass than the rate allows, and one second's worth."""
        herd = Herd(rate)
        passed = [herd.clock.seconds() for wait in waits if herd.comes(wait)]
        for first, begin in enumerate(passed):
            for last, end in enumerate(passed[first:], first):
                self.assertLessEqual(last - first + 1, rate + (end - begin) * rate + 1e-6)

    def test_steady(self) -> None:
        """Who comes at the pace is always let in; a herd gets one second's worth, and then one every so often."""
        herd = Herd(10)
        self.assertEqual(sum(herd.comes() for _ in range(100)), 10)
        herd.clock.advance(0.001)
        self.assertEqual([herd.comes(0.1) for _ in range(29)], [True] * 29)

    def test_no_limit(self) -> None:
        """A rate of 0 lets all pass."""
        herd = Herd(0)
        self.assertTrue(all(herd.comes() for _ in range(1000)))

    def test_slow(self) -> None:
        """Also at less than one a second everybody gets in, one by one."""
        herd = Herd(0.5)
        self.assertEqual([herd.comes(wait) for wait in (0, 1, 1, 1, 1)], [True, False, True, False, True])


class AdmissionTest(SynchronousTestCase):
    def test_told_when_to_come_again(self) -> None:
        """Those who are not let in come again at moments of their own; once closed nobody is let in."""
        clock, random = Clock(), iter([0.5, 0.0, 1.0, 0.5, 0.25])
        admission = Admission(1, clock, lambda: next(random))
        admission.admit()
        refusals = [self.assertRaises(Overloaded, admission.admit).retry_after for _ in range(2)]
        self.assertEqual(refusals, [1.0, 1 + HERD_SPREAD_S])
        clock.advance(1)
        admission.admit()
        clock.advance(1)
        admission.close()
        self.assertEqual(self.assertRaises(Unavailable, admission.admit).retry_after, 1 + HERD_SPREAD_S / 4)
