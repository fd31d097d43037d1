"""Pictures for tests, made with pyvips: of each kind, and what is wrong with some."""

from __future__ import annotations

import io
import struct
import zlib
from functools import lru_cache
from typing import Any

import pillow_heif
import pyvips


@lru_cache(maxsize=8)
def drawing(width: int = 400, height: int = 300) -> Any:
    """Red at the left, blue at the right, and something in between."""
    across = pyvips.Image.xyz(width, height)[0] * (255 / width)
    return (255 - across).bandjoin([across * 0.3 + 40, across]).cast("uchar").copy(interpretation="srgb")


def jpeg(width: int = 400, height: int = 300, *, orientation: int = 1, quality: int = 90) -> bytes:
    """With an orientation in its EXIF, and where it was taken."""
    image = drawing(width, height).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.set_type(
        pyvips.GValue.gstr_type, "exif-ifd3-GPSLatitude", "52/1 31/1 0/1 (52, 31,  0, Rational, 3 components)"
    )
    content: bytes = image.jpegsave_buffer(Q=quality)
    return content


def of_kind(kind: str) -> bytes:
    """One of ``png``, ``webp``, ``gif``, ``avif``, ``tiff``; ``see-through``, ``cmyk``, ``deep`` and ``grey``."""
    image = drawing()
    makers: dict[str, Any] = {
        "png": image.pngsave_buffer,
        "webp": image.webpsave_buffer,
        "gif": image.gifsave_buffer,
        "avif": lambda: image.heifsave_buffer(compression="av1", effort=0),
        "tiff": image.tiffsave_buffer,
        "see-through": lambda: image.bandjoin(128).pngsave_buffer(),
        "cmyk": lambda: image.colourspace("cmyk").jpegsave_buffer(),
        "deep": lambda: image.colourspace("rgb16").pngsave_buffer(),
        "grey": lambda: image.colourspace("b-w").pngsave_buffer(),
    }
    content: bytes = makers[kind]()
    return content


def heic(width: int = 400, height: int = 300, *, mode: str = "RGB", orientation: int = 1, tile: int = 0) -> bytes:
    """As telephones take pictures; ``orientation``: as EXIF has it, which becomes a turn of the file's own; ``tile``:
    of what size the squares are that it is put together of, as most telephones do it; 0: it is in one piece."""
    image = drawing(width, height)
    kinds = {
        "RGB": image,
        "RGBA": image.bandjoin(128).cast("uchar"),
        "L": image.colourspace("b-w"),
        "L;16": image.colourspace("grey16"),
        "RGB;16": image.colourspace("rgb16"),
    }
    file = io.BytesIO()
    made = pillow_heif.from_bytes(mode, (width, height), kinds[mode].write_to_memory())
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0\0\0\0\0\0"
    made.save(file, quality=80, exif=exif, tile_size=tile)
    return file.getvalue()


def animation(frames: int = 3, width: int = 300, height: int = 200) -> bytes:
    """A GIF that moves."""
    one = drawing(width, height)
    film = pyvips.Image.arrayjoin([one, one.invert()] * frames, across=1).crop(0, 0, width, height * frames).copy()
    film.set_type(pyvips.GValue.gint_type, "page-height", height)
    film.set_type(pyvips.GValue.array_int_type, "delay", [100] * frames)
    content: bytes = film.gifsave_buffer()
    return content


def bomb(side: int = 65_535) -> bytes:
    """A PNG of a few kB that claims to be so wide and high."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))

    header = struct.pack("!IIBBBBB", side, side, 8, 2, 0, 0, 0)
    noise = zlib.compress(bytes(4 * 1024 * 1024))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", noise) + chunk(b"IEND", b"")


def polyglot() -> bytes:
    """A GIF that is a page with a script as well."""
    return of_kind("gif") + b"<!doctype html><script>alert(1)</script>"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>'


def opened(content: bytes) -> Any:
    """A picture, decoded."""
    return pyvips.Image.new_from_buffer(content, "")
