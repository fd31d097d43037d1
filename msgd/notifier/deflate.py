"""permessage-deflate (RFC 7692), so that a message is compressed once for all who are due it.

Nothing is carried over from one message to the next, in either direction: the same bytes suit every connection, and no
connection has a compressor or a window of its own.
"""

from __future__ import annotations

import zlib
from typing import Final

from autobahn.websocket.compress import PerMessageDeflate

_NAME: Final = "permessage-deflate"

WINDOW_BITS: Final = 12
"""A window of 4 KiB: an event is mostly smaller, and a compressor of this size is made in a few microseconds."""

MEM_LEVEL: Final = 5
LEVEL: Final = 1
"""The fastest: an event of the largest size takes a hundredth of a second."""

AGREED: Final = f"{_NAME}; server_no_context_takeover; client_no_context_takeover; server_max_window_bits={WINDOW_BITS}"
"""The answer to an offer: all of it may be said although it was not offered (§7.1)."""

_TAIL: Final = b"\x00\x00\xff\xff"
"""Taken off the end of each message (§7.2.1)."""


def suits(offers: str) -> bool:
    """Whether ``Sec-WebSocket-Extensions`` has an offer that :data:`AGREED` answers. What is malformed is no offer."""
    return any(_suits(*map(str.strip, offer.split(";"))) for offer in offers.split(","))


def _suits(name: str, *parameters: str) -> bool:
    given = [parameter.partition("=") for parameter in parameters]
    names = [one[0].strip() for one in given]
    if name.lower() != _NAME or len(set(names)) < len(names):
        return False
    for parameter, equals, value in given:
        bits = value.strip().strip('"')
        match parameter.strip():
            case "server_no_context_takeover" | "client_no_context_takeover" if not equals:
                pass
            case "server_max_window_bits" if bits in _BITS and int(bits) >= WINDOW_BITS:
                pass
            case "client_max_window_bits" if not equals or bits in _BITS:
                pass
            case _:
                return False
    return True


_BITS: Final = frozenset(map(str, range(8, 16)))


def deflated(payload: bytes) -> bytes:
    """The payload of a compressed message."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEM_LEVEL)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


class Inflater(PerMessageDeflate):
    """Decompresses what a client sends; Autobahn bounds how much comes of it."""

    def __init__(self) -> None:
        super().__init__(True, True, True, WINDOW_BITS, zlib.MAX_WBITS, MEM_LEVEL)

    def end_decompress_message(self) -> None:
        super().end_decompress_message()
        self._decompressor = None  # not kept until the next: it is 40 KiB
