"""Decoding in processes of their own: what comes out, what is refused, and what a process's death costs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.services.thumbnailer import decoders as module
from msgd.services.thumbnailer.decoders import DecoderDied, Decoders, DecoderTooSlow, NoPictures
from msgd.services.thumbnailer.frames import FRAME_BYTES, LENGTH, Made, Size, Unframed, frame
from tests.services.thumbnailer import pictures

reactor: Any = _reactor
SIZES = (Size("small", 100), Size("large", 200))
HANGING = "tests.services.thumbnailer.hanging"


class DecodersCase(TestCase):
    """A test with a pool of its own."""

    timeout = 180

    def pool(
        self, count: int = 1, memory_bytes: int = 1 << 30, pixels: int = 100_000_000, seconds: int = 30
    ) -> Decoders:
        made = Decoders(reactor, count=count, memory_bytes=memory_bytes, pixels=pixels, seconds=seconds)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        return made

    def file(self, content: bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return path

    async def made(self, content: bytes, pool: Decoders | None = None) -> dict[str, Made]:
        return {one.name: one for one in await (pool or self.pool()).shrink(self.file(content), SIZES)}

    async def refused(self, content: bytes, pool: Decoders | None = None) -> NoPictures:
        try:
            await self.made(content, pool)
        except NoPictures as refusal:
            return refusal
        raise AssertionError("pictures were made")


class KindsTest(DecodersCase):
    """What is read, and what is made of it."""

    async def test_kinds(self) -> None:
        """Every kind, in sRGB, at most as large as asked: JPEG, or WebP where one can see through it."""
        pool = self.pool()
        for kind in ("png", "webp", "gif", "avif", "see-through", "cmyk", "deep", "grey"):
            made = await self.made(pictures.of_kind(kind), pool)
            self.assertEqual({name: (one.width, one.height) for name, one in made.items()},
                             {"small": (100, 75), "large": (200, 150)}, kind)  # fmt: skip
            expected = "image/webp" if kind == "see-through" else "image/jpeg"
            self.assertEqual({one.media_type for one in made.values()}, {expected}, kind)
            image = pictures.opened(made["large"].content)
            self.assertIn(image.interpretation, ("srgb", "b-w"), kind)
            self.assertEqual((image.width, image.height), (200, 150))
        self.assertEqual(len(pool.pids), 1)

    async def test_heic(self) -> None:
        """A telephone's pictures: upright, with their colours, see-through or grey; too many pixels are refused by the
        head, and what is cut off in words."""
        pool = self.pool(pixels=150_000)
        for mode in ("RGB", "RGBA", "L", "L;16", "RGB;16"):
            made = await self.made(pictures.heic(mode=mode), pool)
            self.assertEqual({name: (one.width, one.height) for name, one in made.items()},
                             {"small": (100, 75), "large": (200, 150)}, mode)  # fmt: skip
            kind = "image/webp" if mode == "RGBA" else "image/jpeg"
            self.assertEqual({one.media_type for one in made.values()}, {kind}, mode)
            pixel = pictures.opened(made["small"].content).getpoint(2, 30)
            self.assertEqual(max(pixel) > min(pixel) + 100, "RGB" in mode, (mode, pixel))
            self.assertTrue("RGB" in mode or 40 < pixel[0] < 200, (mode, pixel))  # the grey of red
        made = await self.made(pictures.heic(orientation=6), pool)
        self.assertEqual((made["large"].width, made["large"].height), (150, 200))
        self.assertNotIn(b"Exif", made["large"].content)
        refusal = await self.refused(pictures.heic(500, 400), pool)
        self.assertEqual(refusal.code, "too-many-pixels")
        whole = pictures.heic()
        for end in (30, 100, 700, -1):
            self.assertEqual((await self.refused(whole[:end], pool)).code, "damaged")
        self.assertEqual(len(pool.pids), 1)
        refusal = await self.refused(pictures.heic(5000, 5000), self.pool(memory_bytes=100 << 20))
        self.assertEqual(refusal.code, "out-of-memory")

    async def test_heic_of_tiles(self) -> None:
        """A picture that is put together of tiles (the last ones over its edges) is as the same one in a piece, upright
        too; one that lacks some is refused in words."""
        pool = self.pool()
        for orientation in (1, 6):
            content = pictures.heic(700, 500, orientation=orientation, tile=256)
            in_one = pictures.heic(700, 500, orientation=orientation)
            self.assertEqual((content.count(b"grid"), in_one.count(b"grid")), (1, 0))
            tiled = pictures.opened((await self.made(content, pool))["large"].content)
            whole = pictures.opened((await self.made(in_one, pool))["large"].content)
            self.assertEqual((tiled.width, tiled.height), (whole.width, whole.height))
            self.assertEqual(tiled.width > tiled.height, orientation == 1)
            difference = (tiled.cast("short") - whole.cast("short")).abs()
            self.assertLess(difference.avg(), 2)
            self.assertLess(difference.max(), 60)
        for end in (len(content) // 2, -1):
            self.assertEqual((await self.refused(content[:end], pool)).code, "damaged")
        self.assertEqual(len(pool.pids), 1)

    async def test_colours(self) -> None:
        """What was red stays red, from CMYK too."""
        for content in (pictures.jpeg(), pictures.of_kind("cmyk")):
            red, _, blue = pictures.opened((await self.made(content))["small"].content).getpoint(2, 30)
            self.assertGreater(red, blue + 100)

    async def test_upright_and_without_metadata(self) -> None:
        """A picture is turned as its camera said, and says nothing of where it was taken."""
        content = pictures.jpeg(orientation=6)
        self.assertIn(b"Exif", content)
        large = (await self.made(content))["large"]
        self.assertEqual((large.width, large.height), (150, 200))
        fields = pictures.opened(large.content).get_fields()
        self.assertEqual([name for name in fields if "exif" in name or "gps" in name.lower()], [])
        self.assertNotIn(b"Exif", large.content)

    async def test_not_enlarged(self) -> None:
        """A small picture stays as small as it is."""
        made = await self.made(pictures.jpeg(50, 40))
        self.assertEqual({(one.width, one.height) for one in made.values()}, {(50, 40)})

    async def test_animation(self) -> None:
        """What moves goes on moving, in both sizes."""
        made = await self.made(pictures.animation(3))
        for name, height in (("small", 66), ("large", 133)):
            self.assertEqual((made[name].media_type, made[name].height), ("image/webp", height))
            self.assertEqual(pictures.opened(made[name].content).get("n-pages"), 3)


class RefusedTest(DecodersCase):
    """What no pictures are made of, and what is said then."""

    async def test_truncated(self) -> None:
        """Files that end too early, of each kind."""
        pool = self.pool()
        for content in (pictures.jpeg(), *map(pictures.of_kind, ("png", "webp", "gif", "avif"))):
            refusal = await self.refused(content[: len(content) // 2], pool)
            self.assertIn(refusal.code, ("damaged", "not-a-picture"))
            self.assertNotIn("/", refusal.message.split("(")[0])
        self.assertEqual(len(pool.pids), 1)

    async def test_gigapixels(self) -> None:
        """A file of a few kB that claims four gigapixels is refused by its header, at once."""
        content = pictures.bomb()
        self.assertLess(len(content), 6000)
        refusal = await self.refused(content)
        self.assertEqual(refusal.code, "too-many-pixels")
        self.assertIn("65535 × 65535 = 4295 million pixels", refusal.message)

    async def test_frames_are_summed(self) -> None:
        """The pixels of an animation are those of all its frames."""
        pool = self.pool(pixels=300 * 200 * 3)
        await self.made(pictures.animation(3), pool)
        refusal = await self.refused(pictures.animation(4), pool)
        self.assertIn("300 × 200 × 4 frames", refusal.message)

    async def test_other_kinds(self) -> None:
        """SVG, PDF, TIFF, text and nothing at all: no loader of theirs is open."""
        pool = self.pool()
        for content in (pictures.SVG, b"%PDF-1.4\n%%EOF", pictures.of_kind("tiff"), b"hello", b"", b"P6 1 1 255 abc"):
            self.assertEqual((await self.refused(content, pool)).code, "not-a-picture", content[:20])

    async def test_polyglot(self) -> None:
        """What is a picture and something else too comes out as a picture alone."""
        made = await self.made(pictures.polyglot())
        self.assertNotIn(b"script", made["large"].content)

    async def test_memory(self) -> None:
        """A file that takes more memory than there may be is refused, or costs its process; the next is decoded."""
        pool = self.pool(memory_bytes=160 << 20)
        deep = pictures.drawing(7000, 7000).bandjoin(9).pngsave_buffer(interlace=True, compression=1)
        with self.assertRaises((NoPictures, DecoderDied)):
            await self.made(deep, pool)
        self.assertEqual(len(await self.made(pictures.jpeg(), pool)), 2)


class DeathTest(DecodersCase):
    """Processes that die, hang, or are not needed any more."""

    async def test_killed(self) -> None:
        """A process that is killed in mid-work fails its file, in words; the next file gets another process."""
        self.patch(module, "PROGRAM", HANGING)
        pool = self.pool()
        decoding = Deferred.fromCoroutine(pool.shrink(self.file(b"hang"), SIZES))
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSEGV)
        with self.assertRaises(DecoderDied) as caught:
            await decoding
        self.assertIn("SIGSEGV", caught.exception.message)
        self.patch(module, "PROGRAM", "msgd.services.thumbnailer.decoding")
        self.assertEqual(len(await self.made(pictures.jpeg(), pool)), 2)
        self.assertNotIn(pid, pool.pids)

    async def test_ends_by_itself(self) -> None:
        """A process that ends in the middle of a file, or talks nonsense, fails its file."""
        self.patch(module, "PROGRAM", HANGING)
        for what, words in ((b"exit", "status 3"), (b"nonsense", "SIGKILL")):
            with self.assertRaises(DecoderDied) as caught:
                await self.pool().shrink(self.file(what), SIZES)
            self.assertIn(words, caught.exception.message)

    async def test_too_slow(self) -> None:
        """A process that takes too long ends itself, and is killed if it does not."""
        self.patch(module, "PROGRAM", HANGING)
        with self.assertRaises(DecoderTooSlow) as caught:
            await self.pool(seconds=1).shrink(self.file(b"hang"), SIZES)
        self.assertIn("longer than 1 s", caught.exception.message)
        self.patch(module, "SPARE_S", 0.1)
        with self.assertRaises(DecoderTooSlow):
            await self.pool(seconds=1).shrink(self.file(b"deaf"), SIZES)

    async def test_cancelled(self) -> None:
        """A file that nobody waits for is decoded no further; who waited for their turn get it."""
        self.patch(module, "PROGRAM", HANGING)
        pool = self.pool()
        first, second, third = (Deferred.fromCoroutine(pool.shrink(self.file(b"hang"), SIZES)) for _ in range(3))
        (pid,) = pool.pids
        second.cancel()
        await self.assertFailure(second, CancelledError)
        self.patch(module, "PROGRAM", "msgd.services.thumbnailer.decoding")
        first.cancel()
        await self.assertFailure(first, CancelledError)
        await self.assertFailure(third, NoPictures)
        self.assertNotIn(pid, pool.pids)

    async def test_reused_and_replaced(self) -> None:
        """A process serves several files, not for ever."""
        self.patch(module, "USES", 3)
        pool, content, seen = self.pool(2), pictures.jpeg(40, 30), set[int]()

        async def one() -> None:
            await self.made(content, pool)
            seen.update(pool.pids)

        await gatherResults([Deferred.fromCoroutine(one()) for _ in range(9)])
        self.assertGreaterEqual(len(seen), 3)

    async def test_stopped(self) -> None:
        """A stop ends all processes, fails what is decoded, and is harmless twice."""
        self.patch(module, "PROGRAM", HANGING)
        pool = self.pool()
        decoding = Deferred.fromCoroutine(pool.shrink(self.file(b"hang"), SIZES))
        failed = self.assertFailure(decoding, DecoderDied)
        await pool.stop()
        await pool.stop()
        await failed
        self.assertEqual(pool.pids, [])
        with self.assertRaises(DecoderDied):
            await pool.shrink(self.file(b"late"), SIZES)


class FramesTest(SynchronousTestCase):
    """The wire between pool and process."""

    def test_pieces(self) -> None:
        """Frames come out whole, however they come in."""
        wire = frame(b"one") + frame(b"") + frame(b"x" * 1000)
        for step in (1, 3, 7, 5000):
            unframed = Unframed()
            found = [one for at in range(0, len(wire), step) for one in unframed.feed(wire[at : at + step])]
            self.assertEqual(found, [b"one", b"", b"x" * 1000])

    def test_too_long(self) -> None:
        """A frame without end is not waited for."""
        with self.assertRaises(ValueError):
            list(Unframed().feed(LENGTH.pack(FRAME_BYTES + 1)))
