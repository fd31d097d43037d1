"""Something that happens once."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial import unittest

from msgd.work.once import Once


class OnceTests(unittest.TestCase):
    def test_all_are_told(self) -> None:
        """Whoever waits is told when it happens; whoever comes later, at once."""
        once = Once()
        first, second = once.wait(), once.wait()
        self.assertNoResult(first)
        once.happen()
        once.happen()
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))
        self.assertIsNone(self.successResultOf(once.wait()))

    def test_one_may_stop_waiting(self) -> None:
        """A waiter that is cancelled hears of that alone, and the others of the occurrence."""
        once = Once()
        first, second = once.wait(), once.wait()
        first.cancel()
        once.happen()
        self.failureResultOf(first, CancelledError)
        self.assertIsNone(self.successResultOf(second))
