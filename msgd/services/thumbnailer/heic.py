"""HEIC, as telephones take it: libvips as it comes from PyPI has no decoder for it, so it is given libheif's pixels.

By ``pi-heif``, which brings decoders alone: ``pillow-heif`` has an encoder too, of five times the size and under the
GPL. Runs in a decoding process.

Source: ISO/IEC 23008-12; pi-heif's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})

READ: Final = 64
"""Bytes in which a file's brands stand: the first is its own, of those after it a few are looked at too."""


class HeicError(Exception):
    """A file that cannot be read, in words."""


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:  # all that it documents
        raise HeicError(str(error)) from None


def is_heic(path: str) -> bool:
    """Whether a file says that it is of this kind."""
    with open(path, "rb") as file:
        head = file.read(READ)
    return head[4:8] == b"ftyp" and any(head[at : at + 4] in BRANDS for at in (8, *range(16, READ, 4)))


class Heic:
    """A file of which the head has been read: nothing is decoded yet. Raises HeicError, as does :meth:`decoded`."""

    def __init__(self, path: str) -> None:
        import pi_heif  # a tenth of a second, for the first of them

        pi_heif.options.DECODE_THREADS = 1  # a core each, as for libvips
        pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
        with _errors():
            self._file = pi_heif.open_heif(path)  # its colours in 8 bits
            self.width, self.height = self._file.size

    def decoded(self, pyvips: Any) -> Any:
        """Its main picture, upright, as libvips has pictures."""
        with _errors():
            data, stride = self._file.data, self._file.stride
        channels, _, deep = self._file.mode.partition(";")  # RGB, RGBA, L or LA; of greys also I;16 and the like
        bands = 1 if channels == "I" else len(channels)
        across = stride // (bands * 2 if deep else bands)
        image = pyvips.Image.new_from_memory(data, across, self.height, bands, "ushort" if deep else "uchar")
        space = ("rgb16" if deep else "srgb") if bands > 2 else ("grey16" if deep else "b-w")
        image = image.crop(0, 0, self.width, self.height).copy(interpretation=space)
        profile = self._file.info.get("icc_profile")
        if profile:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        return image
