"""An event on its way to readers: encoded and framed once for all readers of one subscription."""

from __future__ import annotations

from typing import Final

from msgd.messages.live import LiveEvent
from msgd.notifier.views import event_message

_TEXT_FRAME: Final = 0x81
"""FIN and the opcode of text (RFC 6455 §5.2); servers do not mask."""


_PONG_FRAME: Final = 0x8A


def pong_frame(payload: bytes) -> bytes:
    """``payload``, 125 bytes at most as in every control frame, as an unmasked pong."""
    return bytes((_PONG_FRAME, len(payload))) + payload


def text_frame(payload: bytes) -> bytes:
    """``payload`` as one unmasked WebSocket text frame."""
    size = len(payload)
    if size < 126:
        head = bytes((_TEXT_FRAME, size))
    elif size < 1 << 16:
        head = bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big")
    return head + payload


class Item:
    """One event, shared by all its readers. ``pos`` is 0 for transient ones."""

    __slots__ = ("_frames", "epoch", "event", "pos")

    def __init__(self, epoch: str, event: LiveEvent) -> None:
        self.epoch = epoch
        self.event = event
        self.pos = event.pos or 0
        self._frames: dict[str, bytes] = {}

    def frame(self, subscription: str) -> bytes:
        """The WebSocket frame for the readers of a topic or pattern."""
        found = self._frames.get(subscription)
        if found is None:
            found = self._frames[subscription] = text_frame(event_message(self.epoch, self.event, subscription))
        return found
