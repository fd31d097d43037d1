"""What the contract of ``msgd.journal.interface`` is tested with: journals, and events in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import TestCase

from msgd.journal.interface import Appended, Journal, Lease, Page
from msgd.messages.cursors import Cursor
from msgd.messages.events import Event

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

TTL_MS = 10_000
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS


def event(topic: str, id_: str, **others: Any) -> Event:
    """An event of which only what a test is about is said."""
    plain: dict[str, Any] = {"type": "said", "source": "ann", "time_ms": 5, "data": b"1"}
    return Event(topic=topic, id=id_, **plain | others)


def seqs(page: Page | Appended[Any]) -> list[tuple[str, int]]:
    """Topic and seq of each event of a page or a stored batch."""
    recorded = page.events if isinstance(page, Page) else page.recorded
    return [(one.event.topic, one.seq) for one in recorded]


class JournalBase(_TestCase):
    """What all parts of the suite begin with; a subclass makes the journal."""

    async def make(self) -> Journal:
        """A journal that is empty. It asks :meth:`now_ms` for the time."""
        raise NotImplementedError

    async def another(self) -> Journal:
        """The same journal as another process sees it."""
        raise NotImplementedError

    async def write(self, change: Any) -> Any:
        """``change`` in a transaction of the journal's database."""
        raise NotImplementedError

    def now_ms(self) -> int:
        return self.time_ms

    def setUp(self) -> None:
        self.time_ms = 1_700_000_000_000

    async def begin(self, *events: Event) -> tuple[Journal, Lease]:
        """A journal with these events, and its lease."""
        journal = await self.make()
        lease = await journal.acquire("one", ttl_ms=TTL_MS)
        assert lease is not None
        if events:
            await journal.append(lease, events)
        return journal, lease

    async def fill(self, topic: str, count: int) -> tuple[Journal, Lease]:
        """A journal whose ``topic`` has ``count`` events, each a batch of its own."""
        journal, lease = await self.begin()
        for number in range(count):
            await journal.append(lease, [event(topic, str(number))])
        return journal, lease

    async def cursor(self, journal: Journal, pos: int) -> Cursor:
        return Cursor((await journal.head()).epoch, pos)
