"""Blobs in a folder: the contract, and what only a folder can do wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.blobs.local import LocalBlobs
from msgd.blobs.spool import LEFT_S
from msgd.errors import StorageFull, StorageUnavailable
from tests.contract.blobs import BlobsCases, name_of, read, stored


class LocalTests(BlobsCases, TestCase):
    """The suite, and more."""

    async def make(self) -> LocalBlobs:
        self.folder = Path(self.mktemp())
        return await self.another()

    async def another(self) -> LocalBlobs:
        blobs = LocalBlobs(self.folder, reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(blobs.stop()))
        await blobs.start()
        return blobs

    async def temporary_files(self) -> int:
        return len(list((self.folder / "new").iterdir()))

    async def test_not_written_again(self) -> None:
        """What is there already stays the very file that it was."""
        blobs = await self.make()
        name = (await stored(blobs, b"once")).name
        before = (self.folder / name[:2] / name).stat()
        await stored(blobs, b"once")
        after = (self.folder / name[:2] / name).stat()
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    async def test_synced_before_it_is_seen(self) -> None:
        """The bytes are on the disk before the rename, and the rename before publish returns."""
        blobs = await self.make()
        done: list[str] = []
        real_fsync, real_replace = os.fsync, Path.replace

        def fsync(number: int) -> None:
            done.append("folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file")
            real_fsync(number)

        def replace(path: Path, target: Any) -> Path:
            done.append("rename")
            return real_replace(path, target)

        self.patch(os, "fsync", fsync)
        self.patch(Path, "replace", replace)
        await stored(blobs, b"safe")
        self.assertEqual(done, ["file", "folder", "rename", "folder"])

    async def test_full_disk(self) -> None:
        """A full disk is said, and leaves nothing."""
        blobs = await self.make()
        draft = await blobs.draft()
        await draft.write(b"fits")

        real_write = os.write

        def full(number: int, data: Any) -> int:
            if os.readlink(f"/proc/self/fd/{number}").startswith(str(self.folder.absolute())):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real_write(number, data)  # the reactor writes too

        self.patch(os, "write", full)
        with self.assertRaises(StorageFull) as caught:
            await draft.write(b"too much")
        self.assertIn("No space left", caught.exception.message)
        await draft.discard()
        self.assertEqual(await self.temporary_files(), 0)

    async def test_folder_is_gone(self) -> None:
        """A folder that vanishes under us is an error of its own, not a missing blob or a crash."""
        blobs = await self.make()
        (self.folder / "new").rmdir()
        with self.assertRaises(StorageUnavailable):
            await blobs.draft()

    async def test_left_by_the_dead(self) -> None:
        """A start deletes the temporary files of writers that have died, and of no others."""
        blobs = await self.make()
        draft = await blobs.draft()
        await draft.write(b"alive")
        new = self.folder / "new"
        (living,) = new.iterdir()
        (new / "dead").write_bytes(b"dead")
        (new / "just made").write_bytes(b"")
        for path in (living, new / "dead"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - LEFT_S - 1))
        await self.another()
        self.assertEqual({path.name for path in new.iterdir()}, {living.name, "just made"})
        blob = await draft.finish()
        await draft.publish()
        self.assertEqual(await read(blobs, blob.name), b"alive")

    async def test_reactor_goes_on(self) -> None:
        """A disk that hangs holds up its caller and nobody else."""
        blobs = await self.make()
        name = (await stored(blobs, b"slow")).name
        path = self.folder / name[:2] / name
        path.unlink()
        os.mkfifo(path)  # opening it waits for a writer
        reading = Deferred.fromCoroutine(read(blobs, name))
        await deferToThread(lambda: None)
        self.assertFalse(reading.called)

        def feed() -> None:
            with path.open("wb") as pipe:
                pipe.write(b"")

        failed = self.assertFailure(reading, StorageUnavailable)  # a pipe cannot be sought in
        await deferToThread(feed)
        await failed

    async def test_two_folders(self) -> None:
        """A blob lies in the folder of its first two digits."""
        blobs = await self.make()
        await stored(blobs, b"where")
        self.assertTrue((self.folder / name_of(b"where")[:2] / name_of(b"where")).is_file())
