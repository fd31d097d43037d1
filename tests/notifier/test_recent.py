"""What is remembered of a topic while the line is behind the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import Head, LiveEvent
from msgd.messages.topics import bucket
from msgd.notifier.items import Item
from msgd.notifier.line import Fill, Line
from msgd.notifier.recent import Recent

TOPIC: Final = "room.a"


class BehindTest(SynchronousTestCase):
    """Events 1 and 2 have been released; of 3 to 5 a head has told, and they are being fetched."""

    def setUp(self) -> None:
        self.line = Line()
        self.line.begin("e", 2)
        self.line.settle(bucket(TOPIC), 2)
        self.recent = Recent(self.line)
        self.assertIsInstance(self.line.head(Head("e", 3, 5, {bucket(TOPIC): 3})), Fill)
        self.recent.open(TOPIC)  # by a reader that comes now
        events = [LiveEvent(TOPIC, pos, pos, str(pos), "said", "", 0, Raw(b"null")) for pos in range(1, 6)]
        self.items = [Item("e", event) for event in events]

    def found(self, after: int) -> tuple[Sequence[int], int] | None:
        """The places of what is found, and up to where that is all."""
        reading = self.recent.find(TOPIC, after, 100)
        return None if reading is None else ([item.pos for item in reading.items], reading.upto)

    def test_read_ahead(self) -> None:
        """Who is served from what another has read meanwhile is shown nothing beyond what it is told to have seen: it
        would be shown that again."""
        self.recent.read(TOPIC, 0, self.items, 5, more=False)
        self.assertEqual(self.found(0), ([1, 2], 2))
        self.assertIsNone(self.found(2))

    def test_filled(self) -> None:
        """Once they have been fetched they are there, and once."""
        self.recent.read(TOPIC, 0, self.items, 5, more=False)
        self.assertEqual(self.found(0), ([1, 2], 2))
        release = self.line.filled([item.event for item in self.items[2:]], 5)
        self.recent.add(TOPIC, [Item("e", event) for event in release.events])
        self.assertEqual(self.found(0), ([1, 2, 3, 4, 5], 5))
        self.assertEqual(self.found(2), ([3, 4, 5], 5))
