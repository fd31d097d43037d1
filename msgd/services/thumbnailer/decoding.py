"""What runs in a decoding process: ``python -m msgd.services.thumbnailer.decoding MEMORY_BYTES``.

It reads orders from its standard input, one after the other, and answers on its standard output, until its input ends.
libvips opens JPEG, PNG, WebP, GIF and AVIF only: whatever else it could read (SVG, PDF, TIFF and many more) is code
that nobody needs to attack. HEIC is opened by libheif (``heic``). A file is decoded once; the smaller sizes are made
from the larger ones.

Source: libvips' documentation, "vips_thumbnail" and "vips_block_untrusted_set".
"""

from __future__ import annotations

import re
import resource
import signal
import sys
from typing import Any, Final

import msgspec

from msgd.services.thumbnailer.frames import LENGTH, OUT_OF_MEMORY, Made, Order, Reply, Size, frame
from msgd.services.thumbnailer.heic import Heic, HeicError, is_heic

LOADERS: Final = (
    "VipsForeignLoadJpeg",
    "VipsForeignLoadPng",
    "VipsForeignLoadWebp",
    "VipsForeignLoadNsgif",
    "VipsForeignLoadHeif",
)
ANIMATED: Final = frozenset({"gifload", "webpload"})
"""Loaders whose pages are frames that are shown one after the other."""

QUALITY: Final = 80
"""Of JPEG and WebP: what most sites serve."""

LEAST_RESIZE: Final = 1.5
"""What is left to the resize of a JPEG that is decoded smaller, at least: a good filter still has the last word."""

NOT_A_PICTURE: Final = "not-a-picture"
DAMAGED: Final = "damaged"
TOO_MANY_PIXELS: Final = "too-many-pixels"


_NOISE: Final = re.compile(r"\S+: bad seek to \d+|/\S+/")
"""What libvips says of our files, not of the sender's."""


_NO_MEMORY: Final = (
    "out of memory",
    "unable to allocate",
    "Cannot allocate memory",
    "Error creating thread",
    "Memory allocation error",
)


class Refused(Exception):
    """Why no pictures are made of a file; ``code`` is one of those above, or that of ``frames``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def shut(pyvips: Any) -> None:
    """Leave libvips no loaders but ours, and no memory of earlier files."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in LOADERS:
        pyvips.operation_block_set(loader, False)
    pyvips.cache_set_max(0)


def shrink(pyvips: Any, order: Order) -> tuple[Made, ...]:
    """The pictures, the largest first. Raises Refused."""
    header, frames = _header(pyvips, order)
    made: list[Made] = []
    image: Any = None
    for size in sorted(order.sizes, key=lambda size: -size.pixels):
        try:
            image = _first(pyvips, order.path, header, frames, size) if image is None else _resized(image, size)
            made.append(_encoded(image, size, animated=frames > 1))
        except (pyvips.Error, HeicError) as error:
            raise _refusal(error, DAMAGED, "is damaged or cut off") from None
    return tuple(made)


def _header(pyvips: Any, order: Order) -> tuple[Any, int]:
    """What a file says of itself, and how many frames it has; raises Refused if they have too many pixels together.
    Nothing is decoded yet."""
    header: Any
    frames = 1
    try:
        if is_heic(order.path):
            header = Heic(order.path)
        else:
            header = pyvips.Image.new_from_file(order.path, access="sequential")
            if header.get("vips-loader").removesuffix("_source") in ANIMATED and header.get_typeof("n-pages"):
                frames = header.get("n-pages")
    except HeicError as error:
        raise _refusal(error, DAMAGED, "is damaged or cut off") from None
    except pyvips.Error as error:
        raise _refusal(
            error, NOT_A_PICTURE, "is no picture that thumbnails are made of (JPEG, PNG, WebP, GIF, AVIF, HEIC)"
        ) from None
    pixels = header.width * header.height * frames
    if pixels > order.pixels:
        shown = f"{header.width} × {header.height}" + (f" × {frames} frames" if frames > 1 else "")
        raise Refused(
            TOO_MANY_PIXELS,
            f"the file has {shown} = {pixels / 1e6:.0f} million pixels, more than the {order.pixels / 1e6:.0f} million "
            "allowed ([jobs.thumbnail] pixels)",
        )
    return header, int(frames)


def _first(pyvips: Any, path: str, header: Any, frames: int, size: Size) -> Any:
    """The largest picture, decoded: turned upright, in sRGB."""
    if isinstance(header, Heic):
        image = _resized(header.decoded(pyvips), size)
    elif frames > 1:
        image = pyvips.Image.thumbnail(f"{path}[n=-1]", size.pixels, height=size.pixels, size="down", fail_on="error")
    elif header.get("vips-loader") == "jpegload":
        # libvips itself would leave more to the resize, and so decode four times as much of a usual photo.
        ratio = max(header.width, header.height) / size.pixels
        scale = next((one for one in (8, 4, 2) if ratio >= one * LEAST_RESIZE), 1)
        image = _resized(pyvips.Image.jpegload(path, shrink=scale, fail_on="error", access="sequential"), size)
    else:
        image = pyvips.Image.thumbnail(path, size.pixels, height=size.pixels, size="down", fail_on="error")
    if image.get_typeof("icc-profile-data"):  # after it was made smaller: there is less to convert
        image = image.icc_transform("srgb", embedded=True, intent="relative")
    return (image if image.interpretation == "srgb" else image.colourspace("srgb")).copy_memory()


def _resized(larger: Any, size: Size) -> Any:
    """Never larger than it was. In memory: it is encoded, and made smaller still."""
    return larger.thumbnail_image(size.pixels, height=size.pixels, size="down").copy_memory()


def _encoded(image: Any, size: Size, *, animated: bool) -> Made:
    """As JPEG; as WebP if it moves or one can see through it. Without metadata."""
    if animated or image.hasalpha():
        kind = "image/webp"
        content = image.webpsave_buffer(Q=QUALITY, keep="none", effort=2)
    else:
        kind = "image/jpeg"
        content = image.jpegsave_buffer(Q=QUALITY, keep="none")
    height = image.get("page-height") if animated and image.get_typeof("page-height") else image.height
    return Made(size.name, kind, image.width, height, content)


def _refusal(error: Exception, code: str, what: str) -> Refused:
    words = " ".join(_NOISE.sub("", str(getattr(error, "detail", "") or error)).split())
    if any(sign in words for sign in _NO_MEMORY):
        return Refused(OUT_OF_MEMORY, "the file takes more memory to decode than a decoder may have")
    return Refused(code, f"the file {what}: {words[:300]}")


def main() -> None:
    """Answer orders until there are no more."""
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pyvips

    shut(pyvips)
    # After the libraries have been mapped, so that the limit is about what pictures take.
    with open("/proc/self/statm", encoding="ascii") as sizes:
        taken = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    orders, replies = sys.stdin.buffer, sys.stdout.buffer
    while len(head := orders.read(LENGTH.size)) == LENGTH.size:
        order = msgspec.msgpack.decode(orders.read(LENGTH.unpack(head)[0]), type=Order)
        signal.alarm(order.seconds)  # ends the process, wherever it hangs
        try:
            reply = Reply(made=shrink(pyvips, order))
        except Refused as refused:
            reply = Reply(code=refused.code, message=refused.message)
        except MemoryError:
            reply = Reply(code=OUT_OF_MEMORY, message="the file takes more memory to decode than a decoder may have")
        signal.alarm(0)
        replies.write(frame(msgspec.msgpack.encode(reply)))
        replies.flush()


if __name__ == "__main__":
    main()
