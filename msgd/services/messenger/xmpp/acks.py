"""Which stanzas the server has taken responsibility for: XEP-0198 (Stream Management), counting on both sides. Pure.

The client asks (``<r/>``), the server answers with how many stanzas it has handled (``<a h='…'/>``), and the other way
round. After a lost connection ``<resumed h='…'/>`` says the same of the stream before, and what is left is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_WRAP = 1 << 32
"""Counters begin again at zero after 2^32 - 1 (XEP-0198 §4)."""


class Acks(Generic[T]):
    """The stanzas of one stream, which may outlast several connections."""

    def __init__(self) -> None:
        self._unacked: deque[T] = deque()
        self._acked = 0  # what the peer has said last
        self._received = 0

    def sent(self, stanza: T) -> None:
        """A stanza was sent, or is to be as soon as there is a connection."""
        self._unacked.append(stanza)

    def acked(self, h: int) -> list[T]:
        """The peer has handled ``h`` stanzas in all: those that it had not said yet, in order. A number that cannot be,
        as more than were sent, counts as all that were."""
        count = min((h - self._acked) % _WRAP, len(self._unacked))
        self._acked = (self._acked + count) % _WRAP
        return [self._unacked.popleft() for _ in range(count)]

    def received(self) -> None:
        """A stanza of the peer's was handled."""
        self._received = (self._received + 1) % _WRAP

    @property
    def h(self) -> int:
        """How many of the peer's were handled."""
        return self._received

    def left(self, wanted: Callable[[T], bool]) -> list[T]:
        """What the peer has not handled and is to be sent again, in order, once the connection is another; the rest
        is forgotten."""
        self._unacked = deque(stanza for stanza in self._unacked if wanted(stanza))
        return list(self._unacked)

    def __len__(self) -> int:
        return len(self._unacked)
