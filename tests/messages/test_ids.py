"""The ids that msgd makes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.ids import SortableIds
from msgd.messages.topics import check_topic


class SortableIdsTest(SynchronousTestCase):
    """:class:`SortableIds`."""

    def test_order(self) -> None:
        """Ids sort as they were made: those of one millisecond too, however many, and before those of the next."""
        ids = SortableIds()
        made = [ids(now_ms) for now_ms in (0, 1, 1_700_000_000_000, 1_700_000_000_001) for _ in range(1000)]
        self.assertEqual(made, sorted(set(made)))

    def test_form(self) -> None:
        """26 characters, one topic word; the time is in front, so that ids of one millisecond begin alike."""
        ids = SortableIds()
        first, second = ids(1_700_000_000_000), ids(1_700_000_000_000)
        self.assertEqual((len(first), first[:9]), (26, second[:9]))
        self.assertNotEqual(first, second)
        check_topic(f"job.{first}")

    def test_a_clock_that_goes_back(self) -> None:
        """Nothing is made twice, and the time that an id tells is the one it was made at."""
        ids = SortableIds()
        made = [ids(now_ms) for now_ms in (2, 1, 2, 1, 1)]
        self.assertEqual(len(set(made)), 5)
        self.assertLess(max(made[1], made[3], made[4]), min(made[0], made[2]))
