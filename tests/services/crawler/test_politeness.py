"""How fast a host is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.politeness import (
    AUTO_MAX_S,
    AUTO_START_S,
    PENALTY_MAX_S,
    RETRY_AFTER_S,
    Delay,
    Pace,
    Paces,
)


def request(pace: Pace, now: float, took_s: float, delay: Delay = "auto", status: int = 200) -> float:
    """One request that begins now; the seconds from its begin to that of the next."""
    pace.started(now, delay)
    pace.answered(now + took_s, took_s, status=status, retry_after_s=None, delay=delay)
    return pace.ready_at() - now


class PaceTests(SynchronousTestCase):
    def test_first(self) -> None:
        """The first request may begin at once, the second waits for what is known of the host by then."""
        pace = Pace()
        self.assertEqual(pace.ready_at(), 0.0)
        pace.started(100.0, "auto")
        self.assertEqual(pace.ready_at(), 100.0 + AUTO_START_S)
        pace.answered(100.01, 0.01, status=200, retry_after_s=None, delay="auto")
        self.assertAlmostEqual(pace.ready_at(), 100.02)

    def test_adapts(self) -> None:
        """A host is asked as often as it can answer, one request after the other: slower as it slows down."""
        pace = Pace()
        for turn in range(20):
            request(pace, turn * 10.0, 0.1)
        self.assertAlmostEqual(pace.delay_s("auto"), 0.1)
        request(pace, 300.0, 2.0)
        self.assertLess(pace.delay_s("auto"), 1.0)  # one slow page is not yet a slow host
        for turn in range(20):
            request(pace, 400.0 + turn * 10, 2.0)
        self.assertAlmostEqual(pace.delay_s("auto"), 2.0, places=1)

    def test_overload(self) -> None:
        """ "Too much" doubles the delay each time, up to a bound; good answers take it back."""
        pace = Pace()
        request(pace, 0.0, 0.1)
        delays = []
        for turn in range(12):
            request(pace, 100.0 * turn, 0.1, status=503)
            delays.append(pace.delay_s("auto"))
        self.assertEqual(delays, sorted(delays))
        self.assertAlmostEqual(delays[-1], 0.1 + PENALTY_MAX_S)
        for turn in range(12):
            request(pace, 5000.0 + 100 * turn, 0.1)
        self.assertAlmostEqual(pace.delay_s("auto"), 0.1)

    def test_fixed(self) -> None:
        """A delay in seconds is kept whatever the host does, and 0 is none."""
        self.assertEqual(request(Pace(), 50.0, 3.0, delay=1.5), 1.5)
        self.assertEqual(request(Pace(), 50.0, 3.0, delay=0), 0.0)

    def test_crawl_delay(self) -> None:
        """The host's own Crawl-delay is kept in any case."""
        for delay in ("auto", 0, 1.0):
            pace = Pace()
            pace.crawl_delay_s = 2.5
            self.assertEqual(request(pace, 50.0, 0.01, delay=delay), 2.5)

    def test_retry_after(self) -> None:
        """Retry-After is kept, up to its bound, also with no delay."""
        pace = Pace()
        pace.answered(10.0, 0.1, status=503, retry_after_s=20.0, delay=0)
        self.assertEqual(pace.ready_at(), 30.0)
        pace.answered(10.0, 0.1, status=503, retry_after_s=5.0, delay=0)
        self.assertEqual(pace.ready_at(), 30.0)
        pace.answered(10.0, 0.1, status=503, retry_after_s=86400.0, delay=0)
        self.assertEqual(pace.ready_at(), 10.0 + RETRY_AFTER_S)

    @given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([0, 200, 404, 429, 503])), max_size=30))
    def test_bounded(self, answers: list[tuple[float, int]]) -> None:
        """Whatever a host does, the delay stays within its bounds."""
        pace = Pace()
        for took_s, status in answers:
            request(pace, 0.0, took_s, status=status)
            self.assertTrue(0 <= pace.delay_s("auto") <= AUTO_MAX_S + PENALTY_MAX_S)


class PacesTests(SynchronousTestCase):
    def test_shared(self) -> None:
        """A host has one pace; the least recently used are forgotten."""
        paces = Paces(limit=2)
        first = paces.of("a")
        paces.of("b")
        self.assertIs(paces.of("a"), first)
        paces.of("c")
        self.assertIs(paces.of("a"), first)
