"""What a decoding process and its pool say to each other: frames of a length and so many bytes. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

LENGTH: Final = struct.Struct("!I")

FRAME_BYTES: Final = 64 * 1024 * 1024
"""A frame: ten pictures of the largest size. A longer one is the word of a process that has lost its senses."""


OUT_OF_MEMORY: Final = "out-of-memory"
"""The code of a file that took too much: the process that read it may not have enough left for another one."""


class Size(Struct, frozen=True):
    """A picture that is wanted: at most so many pixels wide and high."""

    name: str
    pixels: int


class Order(Struct, frozen=True):
    """What a decoding process is asked for."""

    path: str
    sizes: tuple[Size, ...]
    pixels: int  # of the source, all frames together, at most
    seconds: int  # until it ends itself


class Made(Struct, frozen=True):
    """A picture, encoded."""

    name: str
    media_type: str
    width: int
    height: int
    content: bytes


class Reply(Struct, frozen=True):
    """Pictures, or why there are none."""

    made: tuple[Made, ...] = ()
    code: str = ""
    message: str = ""


def frame(content: bytes) -> bytes:
    return LENGTH.pack(len(content)) + content


class Unframed:
    """Frames out of pieces as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that ``data`` completes. Raises ValueError for one that is too long."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            content = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield content
