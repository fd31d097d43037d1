"""A durable queue as far as it is in memory: the next messages, how many more the file holds, who consumes.

The file has every message until it is acknowledged. In memory are the oldest ones, and only while there is a consumer:
new messages go straight on to it if all older ones are in memory and there is room, else they wait in the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from msgd.broker import topology
from msgd.messages.envelope import Message

if TYPE_CHECKING:
    from msgd.broker.embedded.deliveries import EmbeddedConsumer

WAITING_MESSAGES: Final = 1000
WAITING_BYTES: Final = 8 * 1024 * 1024
"""What one queue keeps in memory beyond what is in its consumers' hands."""

REFILL_BELOW: Final = 250
"""A page is asked for before the last one is used up, so that consumers need not wait for it."""

_ENTRY_BYTES: Final = 300
"""About what a message takes beside its body."""


class Entry:
    """A stored message."""

    __slots__ = ("deliveries", "exchange", "id", "key", "message", "size")

    def __init__(self, id_: int, exchange: str, key: str, message: Message, deliveries: int = 0) -> None:
        self.id = id_
        self.exchange = exchange
        self.key = key
        self.message = message
        self.deliveries = deliveries
        self.size = len(message.body) + _ENTRY_BYTES


class DurableQueue:
    """One queue; ``number`` is its id in the file."""

    def __init__(self, number: int, shape: topology.Queue, stored: int) -> None:
        """``stored``: how many messages the file holds already."""
        self.number = number
        self.shape = shape
        self.unloaded = stored
        self.loaded_to = 0
        self.loading = False
        self.consumers: list[EmbeddedConsumer] = []
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._returned: list[tuple[int, Entry]] = []
        self._expected = 0
        self._expected_bytes = 0

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def ready(self) -> int:
        """Messages in nobody's hands."""
        return self.in_memory + self.unloaded

    @property
    def in_memory(self) -> int:
        """Messages in memory and in nobody's hands."""
        return len(self._waiting) + len(self._returned)

    # -- from the file ---------------------------------------------------------------------------------------------

    def expect(self, entry: Entry) -> bool:
        """A new message is about to be stored. True: it will go on from memory, by :meth:`arrived`; False: it stays
        in the file until its turn comes."""
        if not self.consumers or self.unloaded or not self._room():
            self.unloaded += 1
            return False
        self._expected += 1
        self._expected_bytes += entry.size
        self.loaded_to = entry.id
        return True

    def arrived(self, entry: Entry) -> None:
        """A message that was expected is stored."""
        self._expected -= 1
        self._expected_bytes -= entry.size
        self._append(entry)

    def refused(self, expected: bool, entry: Entry) -> None:
        """A message could not be stored after all; ``expected`` is what :meth:`expect` said."""
        if expected:
            self._expected -= 1
            self._expected_bytes -= entry.size
        else:
            self.unloaded -= 1

    @property
    def wants_page(self) -> bool:
        """Whether to load more from the file now."""
        return bool(self.consumers) and self.unloaded > 0 and not self.loading and len(self._waiting) < REFILL_BELOW

    def loaded(self, page: Iterable[Entry]) -> None:
        """A page has come."""
        for entry in page:
            self._append(entry)
            self.loaded_to = entry.id
            self.unloaded -= 1

    def _append(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._waiting_bytes += entry.size

    def _room(self) -> bool:
        return (
            len(self._waiting) + self._expected < WAITING_MESSAGES
            and self._waiting_bytes + self._expected_bytes < WAITING_BYTES
        )

    # -- to the consumers ------------------------------------------------------------------------------------------

    def take(self) -> Entry | None:
        """The oldest message in memory; None if there is none."""
        if self._returned and (not self._waiting or self._returned[0][0] < self._waiting[0].id):
            return heappop(self._returned)[1]
        if not self._waiting:
            return None
        entry = self._waiting.popleft()
        self._waiting_bytes -= entry.size
        return entry

    def give_back(self, entry: Entry) -> None:
        """A message comes back, to its old place."""
        heappush(self._returned, (entry.id, entry))

    def next_consumer(self) -> EmbeddedConsumer | None:
        """Whose turn it is; None if nobody takes more.

        Consumers take turns, but only the first of those that need the queue's order is served.
        """
        leader_seen = False
        for number, consumer in enumerate(self.consumers):
            in_order = consumer.ordered or self.shape.single_consumer
            if in_order and leader_seen:
                continue
            leader_seen = leader_seen or in_order
            if consumer.takes_more:
                if not in_order:
                    self.consumers.append(self.consumers.pop(number))
                return consumer
        return None
