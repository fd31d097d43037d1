"""Blobs in a folder: ``<folder>/ab/abcd…``, and ``<folder>/new`` for what is on its way in.

Several processes may share the folder, also by a network file system. A file appears under its name by one rename,
after its bytes are on the disk; the rename is on the disk when ``publish`` returns.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from msgd.blobs.interface import CHUNK_BYTES, Blob, BlobMissing, check_blob_name
from msgd.blobs.offload import Offload
from msgd.blobs.spool import SpooledDraft, SpoolFile, disk_errors, make_folder
from msgd.errors import StorageUnavailable

NEW: Final = "new"
"""Beside the folders of two hex digits."""


class LocalBlobs:
    """Implements :class:`~msgd.blobs.interface.Blobs`."""

    def __init__(self, folder: Path, *, reactor: Any) -> None:
        self._folder = folder
        self._offload = Offload(reactor)

    async def start(self) -> None:
        """Make the folder. Raises StorageUnavailable."""
        self._offload.start()
        await self._offload.call(make_folder, self._folder / NEW)

    async def stop(self) -> None:
        self._offload.stop()

    async def check(self) -> None:
        """Whether the folder can be written, or made."""
        self._offload.start()
        await self._offload.call(_check, self._folder)

    async def draft(self) -> SpooledDraft:
        file = await self._offload.call(SpoolFile, self._folder / NEW)
        return SpooledDraft(self._offload, file, self._place)

    async def size(self, name: str) -> int:
        return await self._offload.call(_size, self._path(name))

    async def read(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        file = await self._offload.call(_open, self._path(name), start)
        try:
            left = length
            while left is None or left > 0:
                piece = await self._offload.call(_read, file, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
                if not piece:
                    return
                if left is not None:
                    left -= len(piece)
                yield piece
        finally:
            await self._offload.call(file.close)

    @contextlib.asynccontextmanager
    async def local(self, name: str) -> AsyncIterator[Path]:
        await self.size(name)
        yield self._path(name)

    async def delete(self, name: str) -> None:
        await self._offload.call(_delete, self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / check_blob_name(name)[:2] / name

    def _place(self, file: Path, blob: Blob) -> None:
        """In a thread."""
        path = self._path(blob.name)
        if path.exists():
            return
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            _sync(self._folder)
        file.replace(path)  # of two at the same time the later wins, with the same bytes
        _sync(path.parent)


def _check(folder: Path) -> None:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise StorageUnavailable(f"{there} cannot be written", where="blobs.url")


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _size(path: Path) -> int:
    with disk_errors():
        try:
            return path.stat().st_size
        except FileNotFoundError:
            raise _missing(path) from None


def _open(path: Path, start: int) -> BinaryIO:
    with disk_errors():
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise _missing(path) from None
        file.seek(start)
        return file


def _read(file: BinaryIO, size: int) -> bytes:
    with disk_errors():
        return file.read(size)


def _delete(path: Path) -> None:
    with disk_errors():
        path.unlink(missing_ok=True)


def _missing(path: Path) -> BlobMissing:
    return BlobMissing(f"there is no blob {path.name}", where="blob")
