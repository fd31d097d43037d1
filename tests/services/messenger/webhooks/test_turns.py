"""Whose turn it is: a slow receiver does not hold up the others."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from msgd.services.messenger.webhooks.turns import LONGEST_S, Turns


class TurnsTest(SynchronousTestCase):
    """Requests to one receiver at a time."""

    def test_at_once(self) -> None:
        """So many go on, further ones are told to come again; another receiver is not concerned."""
        turns = Turns(2)
        self.assertEqual([turns.take("a", 0.0), turns.take("a", 0.0)], [0.0, 0.0])
        self.assertGreater(turns.take("a", 0.0), 0.0)
        self.assertEqual(turns.take("b", 0.0), 0.0)
        turns.leave("a", 1.0)
        self.assertEqual(turns.take("a", 1.0), 0.0)

    def test_one_after_the_other(self) -> None:
        """Those who wait come back at the pace of the receiver, within bounds."""
        turns = Turns(2)
        for _ in range(2):
            turns.take("a", 0.0)
        turns.leave("a", 11.0)  # the mean is now 4 s
        turns.take("a", 0.0)
        waits = [turns.take("a", 0.0) for _ in range(100)]
        self.assertEqual(waits[:3], [2.0, 4.0, 6.0])
        self.assertEqual(waits[-1], LONGEST_S)

    def test_forgotten(self) -> None:
        """What is not under way takes no memory."""
        turns = Turns(1)
        for number in range(100):
            turns.take(str(number), 0.0)
            turns.take(str(number), 0.0)
            turns.leave(str(number), 1.0)
        self.assertEqual(vars(turns)["_lines"], {})
