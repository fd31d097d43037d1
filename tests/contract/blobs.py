"""What all storage of blobs does (msgd.blobs.interface.Blobs), whatever it stands on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from msgd.blobs.interface import CHUNK_BYTES, Blob, BlobMissing, Blobs
from msgd.errors import StorageUnavailable

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

NOBODY = "0" * 64
LARGE = bytes(range(256)) * 4 * 1024 * 20
"""20 MiB: more than one part of a large object."""


def name_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def stored(blobs: Blobs, content: bytes, pieces: int = 1) -> Blob:
    """``content`` as a blob, written in so many pieces."""
    draft = await blobs.draft()
    step = max(1, -(-len(content) // pieces))
    for start in range(0, len(content), step):
        await draft.write(content[start : start + step])
    blob = await draft.finish()
    await draft.publish()
    await draft.discard()
    return blob


async def read(blobs: Blobs, name: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.read(name, start=start, length=length)])


class BlobsCases(_TestCase):
    """The suite; a subclass makes the storage."""

    async def make(self) -> Blobs:
        """A storage that is empty and has been started."""
        raise NotImplementedError

    async def another(self) -> Blobs:
        """The same storage as another process sees it."""
        raise NotImplementedError

    async def temporary_files(self) -> int:
        """How many files are on their way in."""
        raise NotImplementedError

    async def test_round_trip(self) -> None:
        """What was published is read again, by everybody, under the hash of its bytes."""
        blobs = await self.make()
        blob = await stored(blobs, b"some content", pieces=3)
        self.assertEqual(blob, Blob(name_of(b"some content"), 12))
        for one in (blobs, await self.another()):
            self.assertEqual(await one.size(blob.name), 12)
            self.assertEqual(await read(one, blob.name), b"some content")
        self.assertEqual(await self.temporary_files(), 0)

    async def test_empty(self) -> None:
        """A blob without bytes is one."""
        blobs = await self.make()
        blob = await stored(blobs, b"")
        self.assertEqual((blob.size, await blobs.size(blob.name), await read(blobs, blob.name)), (0, 0, b""))
        self.assertEqual(await read(blobs, blob.name, 0, 10), b"")

    async def test_large(self) -> None:
        """Of a large blob no more than a chunk comes at a time."""
        blobs = await self.make()
        blob = await stored(blobs, LARGE, pieces=7)
        self.assertEqual(blob, Blob(name_of(LARGE), len(LARGE)))
        sizes, digest = [], hashlib.sha256()
        async for piece in blobs.read(blob.name):
            sizes.append(len(piece))
            digest.update(piece)
        self.assertEqual((digest.hexdigest(), sum(sizes)), (blob.name, len(LARGE)))
        self.assertLessEqual(max(sizes), CHUNK_BYTES)

    async def test_ranges(self) -> None:
        """A part is read from where it begins; what lies behind the end is nothing."""
        blobs = await self.make()
        name = (await stored(blobs, b"0123456789")).name
        for start, length, expected in (
            (0, 3, b"012"),
            (7, None, b"789"),
            (7, 100, b"789"),
            (4, 0, b""),
            (10, None, b""),
            (50, 5, b""),
        ):
            self.assertEqual(await read(blobs, name, start, length), expected, (start, length))

    async def test_unseen_until_published(self) -> None:
        """Before it is published nobody finds a draft, and a discarded one nobody ever."""
        blobs = await self.make()
        draft = await blobs.draft()
        await draft.write(b"half a file")
        self.assertEqual(draft.size, 11)
        blob = await draft.finish()
        with self.assertRaises(BlobMissing):
            await blobs.size(blob.name)
        await draft.discard()
        await draft.discard()
        with self.assertRaises(BlobMissing):
            await read(blobs, blob.name)
        with self.assertRaises(StorageUnavailable):
            await draft.publish()
        self.assertEqual(await self.temporary_files(), 0)

    async def test_discarded_in_mid_write(self) -> None:
        """A discard after a cancelled write leaves nothing, although the write's thread may still be at it."""
        blobs = await self.make()
        draft = await blobs.draft()
        writing = Deferred.fromCoroutine(draft.write(LARGE))
        failed = self.assertFailure(writing, Exception)
        writing.cancel()
        await failed
        await draft.discard()
        self.assertEqual(await self.temporary_files(), 0)

    async def test_same_content(self) -> None:
        """The same bytes, also at the same time from several, are one blob."""
        blobs, other = await self.make(), await self.another()
        both = [Deferred.fromCoroutine(stored(one, b"twice")) for one in (blobs, other, blobs)]
        self.assertEqual({blob.name for blob in await gatherResults(both)}, {name_of(b"twice")})
        self.assertEqual(await stored(blobs, b"twice"), Blob(name_of(b"twice"), 5))
        self.assertEqual(await read(blobs, name_of(b"twice")), b"twice")
        self.assertEqual(await self.temporary_files(), 0)

    async def test_missing(self) -> None:
        """What is not there is said to be missing, and so is whatever cannot be a name."""
        blobs = await self.make()
        for name in (NOBODY, "", "new", "../" + NOBODY, NOBODY.upper() + "A", "a" * 64 + "\n"):
            with self.assertRaises(BlobMissing):
                await blobs.size(name)
            with self.assertRaises(BlobMissing):
                await read(blobs, name)
            with self.assertRaises(BlobMissing):
                async with blobs.local(name):
                    self.fail("opened")

    async def test_local_file(self) -> None:
        """A program that wants a file gets one, for as long as it needs it."""
        blobs = await self.make()
        name = (await stored(blobs, b"for a program")).name
        async with blobs.local(name) as path:
            self.assertEqual(path.read_bytes(), b"for a program")
        self.assertEqual(await read(blobs, name), b"for a program")
        self.assertEqual(await self.temporary_files(), 0)

    async def test_delete(self) -> None:
        """A deleted blob is gone, deleting twice is harmless, and it may come again."""
        blobs = await self.make()
        name = (await stored(blobs, b"gone")).name
        await blobs.delete(name)
        await blobs.delete(name)
        with self.assertRaises(BlobMissing):
            await blobs.size(name)
        await stored(blobs, b"gone")
        self.assertEqual(await read(blobs, name), b"gone")

    async def test_reader_that_leaves(self) -> None:
        """Who stops in the middle closes the reading, and holds nothing up."""
        blobs = await self.make()
        name = (await stored(blobs, LARGE)).name
        pieces = blobs.read(name)
        self.assertEqual(len(await pieces.__anext__()) > 0, True)
        await pieces.aclose()
        self.assertEqual(await blobs.size(name), len(LARGE))

    async def test_stopped(self) -> None:
        """A stopped storage says so; stopping twice, or before the start, is harmless."""
        blobs = await self.make()
        draft = await blobs.draft()
        await draft.discard()
        await blobs.stop()
        await blobs.stop()
        with self.assertRaises(StorageUnavailable):
            await blobs.size(NOBODY)
        with self.assertRaises(StorageUnavailable):
            await draft.write(b"late")
