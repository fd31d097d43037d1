"""A 12-megapixel JPEG to three sizes on one core, beside Pillow and vipsthumbnail: ``python -m bench.thumbnails``

Ours is a file's way through the pool of decoding processes: the order, the decoding, three encoded pictures back.
Pillow works in this process, from one decode, each size made of the next larger one: plain, and with ``draft``, by
which the JPEG is decoded smaller. vipsthumbnail (Debian's libvips-tools) is run three times, once for each size, as
there is no way to have it make three from one decode; its start counts, as it does for whoever uses it so. All encode
JPEG of quality 80, and take turns. Then two decoding processes on two cores.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageOps
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from msgd.services.thumbnailer.decoders import Decoders
from msgd.services.thumbnailer.frames import Size

SIZES: Final = (Size("large", 1024), Size("medium", 480), Size("small", 160))
QUALITY: Final = 80
REPETITIONS: Final = 15
AT_ONCE: Final = 16
"""Files in hand for the rate on two cores."""

GOALS: Final = {"Pillow": 2.5, "Pillow with draft": 1.0, "vipsthumbnail, three runs": 0.9}
"""Times the peer's speed."""


def photo(path: Path) -> int:
    """Clouds of several sizes and the noise of a sensor, 4000 × 3000; how many bytes they are as JPEG."""
    import pyvips

    clouds = pyvips.Image.perlin(4000, 3000, cell_size=256, seed=1)
    bands = [pyvips.Image.perlin(4000, 3000, cell_size=size, seed=size) for size in (128, 64)]
    noise = pyvips.Image.gaussnoise(4000, 3000, mean=128, sigma=24, seed=2)
    image = clouds.bandjoin(bands).scaleimage() * 0.85 + noise * 0.15
    image.cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=90)
    return path.stat().st_size


def pillow(path: Path, *, draft: bool) -> None:
    image: Any = Image.open(path)
    if draft:
        image.draft("RGB", (SIZES[0].pixels, SIZES[0].pixels))
    image = ImageOps.exif_transpose(image).convert("RGB")
    for size in SIZES:
        image.thumbnail((size.pixels, size.pixels), Image.Resampling.LANCZOS)
        image.save(io.BytesIO(), "JPEG", quality=QUALITY)


def vipsthumbnail(path: Path, program: str) -> None:
    for size in SIZES:
        target = path.with_name(f"{size.name}.jpg[Q={QUALITY},strip]")
        subprocess.run(
            [program, str(path), "--size", str(size.pixels), "--output", str(target)],
            check=True,
            env={**os.environ, "VIPS_CONCURRENCY": "1"},
        )


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


async def rate(pool: Decoders, path: Path, count: int) -> float:
    """Files a second."""
    begun = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(pool.shrink(path, SIZES)) for _ in range(count)])
    return count / (time.perf_counter() - begun)


def spread(seconds: list[float]) -> str:
    least, middle, most = (1000 * one for one in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:7.1f} ms   ({least:.0f} to {most:.0f})"


async def measure(reactor: Any, repetitions: int) -> None:
    program = shutil.which("vipsthumbnail")
    if program is None:
        raise SystemExit("this needs vipsthumbnail. On Debian or Ubuntu: apt-get install libvips-tools")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="msgd-bench-") as folder:
        path = Path(folder, "photo.jpg")
        size = photo(path)
        os.sched_setaffinity(0, cores[:1])
        pool = Decoders(reactor, count=1, memory_bytes=1 << 30, pixels=100_000_000, seconds=30)
        peers: dict[str, Callable[[], object]] = {
            "Pillow": lambda: pillow(path, draft=False),
            "Pillow with draft": lambda: pillow(path, draft=True),
            "vipsthumbnail, three runs": lambda: vipsthumbnail(path, program),
        }
        ours: list[float] = []
        theirs: dict[str, list[float]] = {name: [] for name in peers}
        await rate(pool, path, 2)  # its process has started
        for _ in range(repetitions):
            begun = time.perf_counter()
            await pool.shrink(path, SIZES)
            ours.append(time.perf_counter() - begun)
            for name, work in peers.items():
                theirs[name].append(timed(work))
        one = statistics.median([await rate(pool, path, AT_ONCE // 2) for _ in range(3)])
        await pool.stop()
        pixels = ", ".join(str(one.pixels) for one in SIZES)
        print(f"a JPEG of 4000 × 3000, {size / 1e6:.1f} MB, to {pixels} pixels, one core, median of {repetitions}")
        print(f"{'msgd':28}{spread(ours)}")
        for name, seconds in theirs.items():
            ratio = statistics.median(seconds) / statistics.median(ours)
            print(f"{name:28}{spread(seconds)}   ratio {ratio:.2f}   (goal {GOALS[name]:g})")
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[:2])
            pool = Decoders(reactor, count=2, memory_bytes=1 << 30, pixels=100_000_000, seconds=30)
            await rate(pool, path, 4)
            two = statistics.median([await rate(pool, path, AT_ONCE) for _ in range(3)])
            await pool.stop()
            print(f"{'one core, one process':28}{one:7.1f} files/s")
            print(f"{'two cores, two processes':28}{two:7.1f} files/s   ratio {two / one:.2f}   (goal about 2)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(measure(reactor, given.repetitions)))


if __name__ == "__main__":
    main()
