"""When to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import PeerError
from msgd.jobs.backoff import LONGEST_ASKED_S, LONGEST_S, backoff_s


class BackoffTests(SynchronousTestCase):
    def test_doubles(self) -> None:
        """Without luck the pause doubles with each attempt, up to an hour."""
        pauses = [backoff_s(attempt, None, 1.0) for attempt in range(1, 15)]
        self.assertEqual(pauses[:5], [2, 4, 8, 16, 32])
        self.assertEqual(pauses[11:], [3600, 3600, 3600])

    def test_asked_for(self) -> None:
        """What a peer asks for is never undercut, whether the error says it or the caller."""
        error = PeerError("busy", retry_after=7200)
        self.assertEqual(backoff_s(1, error, 0.0), 7200)
        self.assertAlmostEqual(backoff_s(1, error, 1.0), 7920)
        self.assertEqual(backoff_s(9, error, 0.0, asked_s=1.5), 1.5)
        self.assertEqual(backoff_s(1, PeerError("busy", retry_after=1e9), 0.5), LONGEST_ASKED_S)

    @given(st.integers(-5, 10**6), st.floats(0, 1))
    def test_bounds(self, attempt: int, jitter: float) -> None:
        """No attempt, however late, waits a negative time or over an hour."""
        self.assertTrue(0 <= backoff_s(attempt, ValueError(), jitter) <= LONGEST_S)
