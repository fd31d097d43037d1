"""A blob as an answer: a tag that never changes, ranges, and headers that keep browsers from running anything.

Sources: RFC 9110 §8.8 (validators), §13 (conditions) and §14 (ranges); RFC 8246 (immutable); Content Security Policy 3,
``sandbox``.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from msgd.blobs.interface import Blobs
from msgd.notifier.interface import Answer, Call, Reply, Stream
from msgd.services.uploads.names import disposition
from msgd.services.uploads.sniff import PICTURES

YEAR_S: Final = 31_536_000
"""For good: what stands at an address never changes."""

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class File(Struct, frozen=True):
    """What is to be given back."""

    blob: str
    size: int
    media_type: str
    name: str


async def serve(blobs: Blobs, file: File, call: Call) -> Reply:
    """The answer to a request for ``file``. Raises BlobMissing before anything is said."""
    await blobs.size(file.blob)
    tag = f'"{file.blob[:32]}"'
    headers = {
        "etag": tag,
        "cache-control": f"private, max-age={YEAR_S}, immutable",
        "content-security-policy": "default-src 'none'; sandbox",
        "content-disposition": disposition(file.name, inline=file.media_type in PICTURES),
        "accept-ranges": "bytes",
    }
    if _matches(call.header("if-none-match"), tag):
        return Answer(status=304, content_type="", headers=headers)
    start, end = 0, file.size
    status = 200
    wanted = _RANGE.fullmatch(call.header("range").replace(" ", ""))
    if wanted and call.header("if-range") in ("", tag) and (wanted[1] or wanted[2]):
        start, end = _span(wanted[1], wanted[2], file.size)
        if start >= end:
            return Answer(status=416, content_type="", headers={**headers, "content-range": f"bytes */{file.size}"})
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["content-length"] = str(end - start)
    return Stream(
        chunks=blobs.read(file.blob, start=start, length=end - start),
        status=status,
        content_type=file.media_type,
        headers=headers,
    )


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """The bytes from, and up to, that a range of one part asks for."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _matches(condition: str, tag: str) -> bool:
    return condition.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in condition.split(","))
