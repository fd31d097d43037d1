"""AMQP 0-9-1 frames, without I/O: bytes in, methods with their content out; and the other way round.

A frame is ``type channel size payload 0xCE`` (§4.2.3). A method such as ``basic.deliver`` is followed by a header
frame, with the size of the body, and as many body frames as it takes, maybe none.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from msgd.broker.amqp.codec import Malformed

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8

END: Final = b"\xce"
OVERHEAD: Final = 8  # what a frame has beside its payload
FRAME_MIN: Final = 4096
"""The size that every peer takes, before and after the two have agreed on another (§4.2.3)."""

PREAMBLE: Final = b"AMQP\x00\x00\x09\x01"
"""What a client opens the conversation with: the protocol and its version, 0-9-1."""

DELIVER: Final = b"\x00\x3c\x00\x3c"
RETURN: Final = b"\x00\x3c\x00\x32"
GET_OK: Final = b"\x00\x3c\x00\x47"
ACK: Final = b"\x00\x3c\x00\x50"
NACK: Final = b"\x00\x3c\x00\x78"
PUBLISH: Final = b"\x00\x3c\x00\x28"

_WITH_CONTENT: Final = frozenset({DELIVER, RETURN, GET_OK})
_END: Final = END[0]

_HEAD = struct.Struct(">BHL")
_unpack_head = _HEAD.unpack_from
_pack_head = _HEAD.pack
_unpack_size = struct.Struct(">Q").unpack_from


class Unit(NamedTuple):
    """A method, with its content if it is one that has content."""

    channel: int
    method: bytes  # the method frame's payload
    header: bytes | None  # the content header frame's payload
    body: bytes


class _Content:
    """A content of which something is still to come."""

    __slots__ = ("chunks", "header", "method", "missing")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header: bytes | None = None
        self.missing = 0
        self.chunks: list[bytes] = []


class FrameReader:
    """Cuts what a socket brings into :class:`Unit`; keeps what is incomplete for the next call."""

    def __init__(self, frame_max: int) -> None:
        """``frame_max``: bytes of the largest frame that is accepted, with its overhead."""
        self.frame_max = frame_max
        self._rest = b""
        self._contents: dict[int, _Content] = {}

    def feed(self, data: bytes) -> list[Unit]:  # noqa: C901  one loop: a call per frame would cost as much as its work
        """The units that ``data`` completes, in order. Heartbeats are swallowed. Raises Malformed."""
        buffer = self._rest + data if self._rest else data
        length = len(buffer)
        contents = self._contents
        units: list[Unit] = []
        position = 0
        while position + 7 <= length:
            kind, channel, size = _unpack_head(buffer, position)
            start = position + 7
            end = start + size
            if end >= length:
                self._check_size(kind, size)
                break
            if buffer[end] != _END:
                raise Malformed(f"a frame of type {kind} does not end with 0xCE: is the peer an AMQP 0-9-1 broker?")
            position = end + 1
            if kind == METHOD:
                payload = buffer[start:end]
                if channel in contents:
                    raise Malformed("a method came in the middle of a content")
                if payload[:4] in _WITH_CONTENT:
                    contents[channel] = _Content(payload)
                else:
                    units.append(Unit(channel, payload, None, b""))
            elif kind == HEADER:
                content = contents.get(channel)
                if content is None or content.header is not None or size < 14:
                    raise Malformed("a content header came out of turn")
                content.header = header = buffer[start:end]
                (content.missing,) = _unpack_size(header, 4)
                if not content.missing:
                    del contents[channel]
                    units.append(Unit(channel, content.method, header, b""))
            elif kind == BODY:
                content = contents.get(channel)
                if content is None or content.header is None or size > content.missing:
                    raise Malformed("a content body came out of turn, or is longer than its header said")
                content.missing -= size
                if content.missing:
                    content.chunks.append(buffer[start:end])
                    continue
                del contents[channel]
                body = buffer[start:end]
                if content.chunks:
                    content.chunks.append(body)
                    body = b"".join(content.chunks)
                units.append(Unit(channel, content.method, content.header, body))
            elif kind != HEARTBEAT:
                raise Malformed(f"frame of unknown type {kind}: is the peer an AMQP 0-9-1 broker?")
        self._rest = buffer[position:]
        return units

    def _check_size(self, kind: int, size: int) -> None:
        if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
            raise Malformed(f"frame of unknown type {kind}: is the peer an AMQP 0-9-1 broker?")
        if size > self.frame_max - OVERHEAD:
            raise Malformed(f"a frame of {size} bytes, where {self.frame_max - OVERHEAD} are agreed")

    def forget(self, channel: int) -> None:
        """A channel is gone: so is what was incomplete on it."""
        self._contents.pop(channel, None)


HEARTBEAT_FRAME: Final = _pack_head(HEARTBEAT, 0, 0) + END


def method_frame(channel: int, payload: bytes) -> bytes:
    """One method frame."""
    return _pack_head(METHOD, channel, len(payload)) + payload + END


def content_frames(channel: int, header: bytes, body: bytes, frame_max: int) -> bytes:
    """The header frame and as many body frames as ``frame_max`` bytes a frame make of ``body``."""
    size = len(body)
    room = frame_max - OVERHEAD
    if size <= room:
        if not size:
            return _pack_head(HEADER, channel, len(header)) + header + END
        return b"".join(
            (_pack_head(HEADER, channel, len(header)), header, END, _pack_head(BODY, channel, size), body, END)
        )
    parts = [_pack_head(HEADER, channel, len(header)), header, END]
    for start in range(0, size, room):
        chunk = body[start : start + room]
        parts += (_pack_head(BODY, channel, len(chunk)), chunk, END)
    return b"".join(parts)
