"""Deliveries that wait for the recorder, and which of them make the next batch: pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgd.services.recorder.sorting import Item

BATCH: Final = 500
"""Events in one transaction (DESIGN §4.8): it commits in some 10 ms, and nobody waits for longer than two of them."""

BATCH_BYTES: Final = 8 * 1024 * 1024
"""Data in one batch: it is held as deliveries, as rows and as live messages at the same time."""


class Intake:
    """One line for each queue, read in turn: a million rows of a crawl do not delay a chat.

    Within a queue the order is kept. What came over a connection that is gone is dropped when its turn comes: it comes
    again, behind what is dropped.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        self._lines: dict[str, deque[tuple[float, Item]]] = {queue: deque() for queue in queues}

    def add(self, item: Item, now_s: float) -> None:
        """Something has arrived."""
        self._lines[item.delivery.queue].append((now_s, item))

    @property
    def oldest_s(self) -> float | None:
        """When the one came that has waited longest; None: nothing waits."""
        return min((line[0][0] for line in self._lines.values() if line), default=None)

    def take(self) -> list[Item]:
        """The next batch: one of each queue in turn, while there are any, up to BATCH events and BATCH_BYTES."""
        batch: list[Item] = []
        count = size = 0
        lines = deque(line for line in self._lines.values() if line)
        while lines and count < BATCH and size < BATCH_BYTES:
            line = lines.popleft()
            if batch and count + len(line[0][1].events) > BATCH:
                continue
            _, item = line.popleft()
            if item.delivery.current:
                batch.append(item)
                count += len(item.events) or 1
                size += len(item.delivery.message.body)
            if line:
                lines.append(line)
        return batch

    def give_back(self, batch: Sequence[Item], now_s: float) -> None:
        """Take a batch back, to be the first of the next one: it could not be finished."""
        for item in reversed(batch):
            self._lines[item.delivery.queue].appendleft((now_s, item))

    def clear(self) -> None:
        """Forget all: the consumers have ended, and what was in hand goes back to the queues."""
        for line in self._lines.values():
            line.clear()
