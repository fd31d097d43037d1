"""What a file is, told by its first bytes: neither its name nor what its sender says of it counts.

Sources: the WHATWG standard "MIME Sniffing" for the patterns, ISO/IEC 14496-12 and 23008-12 for the brands of HEIF.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

SNIFF_BYTES: Final = 4096
"""What is looked at: every pattern lies within some hundred bytes, and so much text tells itself from noise."""

PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/heic"})
"""What thumbnails are made of."""

UNKNOWN: Final = "application/octet-stream"

_MAGIC: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"OggS\0", "application/ogg"),
    (b"ID3", "audio/mpeg"),
)
_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
}
_HTML: Final = re.compile(rb"<(?:!doctype html|html|head|script|iframe|body|style|title)[\s>]", re.IGNORECASE)
_SVG: Final = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_NOT_TEXT: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def media_type(head: bytes, name: str = "") -> str:
    """The media type of a file that begins with ``head`` (:data:`SNIFF_BYTES`, or all of it). ``name`` tells only
    one kind of text from another."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _heif(head)
    return _text(head, name)


def _heif(head: bytes) -> str:
    """Of a file in ISO's base media format: by its major brand, then by those that it is compatible with."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "image/avif"
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "video/mp4")


def _text(head: bytes, name: str) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # its end may lie within a character
    except UnicodeDecodeError:
        return UNKNOWN
    if not head or _NOT_TEXT.search(head):
        return UNKNOWN
    if _SVG.search(head):
        return "image/svg+xml"
    if _HTML.search(head):
        return "text/html"
    return "text/csv" if name.lower().endswith(".csv") else "text/plain"
