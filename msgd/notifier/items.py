"""An event on its way to readers: encoded and framed once for all readers of one form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgd.messages.cursors import Cursor
from msgd.messages.live import LiveEvent
from msgd.notifier.deflate import deflated
from msgd.notifier.sse import block
from msgd.notifier.views import event_message, event_page

_TEXT_FRAME: Final = 0x81
"""FIN and the opcode of text (RFC 6455 §5.2); servers do not mask."""

_DEFLATED_FRAME: Final = _TEXT_FRAME | 0x40
"""RSV1: its message is compressed (RFC 7692 §6)."""

_PONG_FRAME: Final = 0x8A

PING: Final = bytes((0x89, 0))
"""A ping without a payload: of several at once only the last needs an answer (RFC 6455 §5.5.3)."""


def pong_frame(payload: bytes) -> bytes:
    """``payload``, 125 bytes at most as in every control frame, as an unmasked pong."""
    return bytes((_PONG_FRAME, len(payload))) + payload


def text_frame(payload: bytes) -> bytes:
    """``payload`` as one unmasked WebSocket text frame."""
    return _frame(_TEXT_FRAME, payload)


def deflated_frame(payload: bytes) -> bytes:
    """The same, compressed if that makes it shorter."""
    shorter = deflated(payload)
    return _frame(_DEFLATED_FRAME, shorter) if len(shorter) < len(payload) else text_frame(payload)


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes((kind, size))
    elif size < 1 << 16:
        head = bytes((kind, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((kind, 127)) + size.to_bytes(8, "big")
    return head + payload


_NONE: Final[dict[str, bytes]] = {}
"""Stands where nothing is compressed, as mostly; it stays empty."""


class Item:
    """One event, shared by all its readers. ``pos`` is 0 for transient ones."""

    __slots__ = ("_deflated", "_frames", "_sse", "_view", "epoch", "event", "pos")

    def __init__(self, epoch: str, event: LiveEvent) -> None:
        self.epoch = epoch
        self.event = event
        self.pos = event.pos or 0
        self._frames: dict[str, bytes] = {}
        self._deflated: dict[str, bytes] = _NONE
        self._sse = b""
        self._view = b""

    def frame(self, subscription: str) -> bytes:
        """The WebSocket frame for the readers of a topic or pattern."""
        found = self._frames.get(subscription)
        if found is None:
            found = self._frames[subscription] = text_frame(event_message(self.epoch, self.event, subscription))
        return found

    def deflated(self, subscription: str) -> bytes:
        """The same for those who take it compressed."""
        found = self._deflated.get(subscription)
        if found is None:
            if self._deflated is _NONE:
                self._deflated = {}
            found = deflated_frame(event_message(self.epoch, self.event, subscription))
            self._deflated[subscription] = found
        return found

    def sse(self) -> bytes:
        """The block of an event stream, whose place is behind it."""
        if not self._sse:
            message = event_message(self.epoch, self.event, self.event.topic)
            self._sse = block(message, cursor=str(Cursor(self.epoch, self.pos)) if self.pos else "")
        return self._sse

    def view(self) -> bytes:
        """What stands in a page."""
        if not self._view:
            self._view = event_page(self.epoch, self.event)
        return self._view


class Stretch(tuple[Item, ...]):  # noqa: SLOT001 (a tuple's subclass has no slots but empty ones)
    """Items that go out together, in order: what many connections are due at once is joined once for all of them.

    Its items are all transient, or all are recorded. ``first`` and ``last`` are the pos of its first and last one, and
    ``first_seq`` and ``last_seq`` their seq; 0 and None if there are none.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        """A tuple's ``__new__`` has taken them."""
        self.first = self[0].pos if self else 0
        self.last = self[-1].pos if self else 0
        self.first_seq = self[0].event.seq if self else None
        self.last_seq = self[-1].event.seq if self else None
        self._joined: dict[str, bytes] = {}
        self._deflated: dict[str, bytes] = _NONE
        self._sse = b""
        self._size = -1

    @property
    def size(self) -> int:
        """Bytes of their data."""
        if self._size < 0:
            self._size = sum(len(memoryview(item.event.data)) for item in self)
        return self._size

    def frames(self, label: str) -> bytes:
        """Their WebSocket frames for the readers of a topic or pattern."""
        found = self._joined.get(label)
        if found is None:
            frames = [item.frame(label) for item in self]
            found = self._joined[label] = frames[0] if len(frames) == 1 else b"".join(frames)
        return found

    def deflated(self, label: str) -> bytes:
        """The same for those who take them compressed."""
        found = self._deflated.get(label)
        if found is None:
            if self._deflated is _NONE:
                self._deflated = {}
            found = self._deflated[label] = b"".join([item.deflated(label) for item in self])
        return found

    def sse(self) -> bytes:
        """Their blocks of an event stream."""
        if not self._sse:
            blocks = [item.sse() for item in self]
            self._sse = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return self._sse
