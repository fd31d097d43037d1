"""Content codings (RFC 9110 §8.4.1), undone with a bound on what may come out: a few KB of gzip can hold gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

ACCEPTED: Final = "gzip, deflate"
"""What we ask for: what zlib can undo piece by piece, so that a bomb is stopped at its first megabytes."""

PIECE_BYTES: Final = 64 * 1024

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS


class BrokenCoding(Exception):
    """A body that is not what its Content-Encoding says; the message is for the page's event."""


class TooBig(Exception):
    """A body that grows beyond the bound."""


def pieces(chunks: Iterable[bytes], content_encoding: str) -> Iterator[bytes]:
    """The decoded body, piece by piece. Raises BrokenCoding."""
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not codings:
        yield from chunks
        return
    if len(codings) > 1 or codings[0] not in ("gzip", "x-gzip", "deflate"):
        raise BrokenCoding(f"content coding {content_encoding[:60]!r}, which was not asked for")
    yield from _inflate(iter(chunks))


def _inflate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    first = True
    for chunk in _whole_header(chunks):
        while chunk:
            try:
                piece = inflater.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                if not first:
                    raise BrokenCoding(f"broken gzip or deflate coding: {error}") from None
                # Some servers send raw deflate (RFC 1951) where HTTP means zlib (RFC 1950); browsers take both.
                inflater = zlib.decompressobj(_RAW)
                try:
                    piece = inflater.decompress(chunk, PIECE_BYTES)
                except zlib.error:
                    raise BrokenCoding("the body is neither gzip nor deflate, though it says so") from None
            first = False
            if piece:
                yield piece
            chunk = inflater.unconsumed_tail
            if inflater.eof:
                chunk = inflater.unused_data
                if not chunk.startswith(b"\x1f\x8b"):  # padding; else a further gzip member (RFC 1952 §2.2)
                    return
                inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    if first:  # no body at all
        return
    rest = inflater.flush()  # all input is consumed: what zlib still holds is less than its window, 32 KiB
    if rest:
        yield rest
    if not inflater.eof:
        raise BrokenCoding("the body ends in the middle of its gzip or deflate coding")


def _whole_header(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, the first of at least two bytes: by those zlib tells gzip and zlib from what is neither."""
    held = b""
    for chunk in chunks:
        held += chunk
        if len(held) >= 2:
            yield held
            break
    else:
        if held:
            yield held
        return
    yield from chunks


def decoded(chunks: Iterable[bytes], content_encoding: str, limit: int) -> bytes:
    """The whole decoded body. Raises BrokenCoding, or TooBig once it is over ``limit`` bytes."""
    kept = []
    size = 0
    for piece in pieces(chunks, content_encoding):
        size += len(piece)
        if size > limit:
            raise TooBig(f"more than {limit // (1024 * 1024)} MiB")
        kept.append(piece)
    return b"".join(kept)
