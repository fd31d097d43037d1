"""Content on its way in: a temporary file that is hashed as it is written. What is here blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Final

from msgd.blobs.interface import Blob
from msgd.blobs.offload import Offload
from msgd.errors import StorageFull, StorageUnavailable

LEFT_S: Final = 60.0
"""The age from which a temporary file without a lock is somebody's who has died: it is locked right after it is
made."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Place = Callable[[Path, Blob], None]
"""Puts a finished file where readers find it; the file may be moved away."""


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """What the disk refuses, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"there is no room left for blobs: {error.strerror}") from None
        raise StorageUnavailable(f"blobs cannot be stored: {error.strerror or error}") from None


class SpoolFile:
    """One temporary file. The lock makes a discard wait for the write that was cancelled, and whose thread goes on."""

    def __init__(self, folder: Path) -> None:
        self._lock = Lock()
        self._hash = hashlib.sha256()
        self._blob: Blob | None = None
        with disk_errors():
            number, path = tempfile.mkstemp(dir=folder)
            fcntl.flock(number, fcntl.LOCK_EX)  # until it is closed, as by the death of the process
            self._file: int | None = number
        self.path = Path(path)
        self.size = 0

    def write(self, data: bytes) -> None:
        with self._lock, disk_errors():
            file = self._open()
            self._hash.update(data)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            self.size += len(data)

    def finish(self) -> Blob:
        with self._lock, disk_errors():
            os.fsync(self._open())
            self._blob = Blob(self._hash.hexdigest(), self.size)
            return self._blob

    def publish(self, place: Place) -> None:
        with self._lock, disk_errors():
            self._open()
            assert self._blob is not None, "published before it was finished"
            place(self.path, self._blob)
            self._close()

    def discard(self) -> None:
        with self._lock:
            self._close()

    def _open(self) -> int:
        if self._file is None:
            raise StorageUnavailable("this draft has been discarded")
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self.path.unlink(missing_ok=True)  # where it was not moved
            os.close(file)


class SpooledDraft:
    """Implements :class:`~msgd.blobs.interface.Draft` with a temporary file and somebody who knows its place."""

    def __init__(self, offload: Offload, file: SpoolFile, place: Place) -> None:
        self._offload = offload
        self._file = file
        self._place = place

    @property
    def size(self) -> int:
        return self._file.size

    async def write(self, data: bytes) -> None:
        await self._offload.call(self._file.write, data)

    async def finish(self) -> Blob:
        return await self._offload.call(self._file.finish)

    async def publish(self) -> None:
        await self._offload.call(self._file.publish, self._place)

    async def discard(self) -> None:
        await self._offload.call(self._file.discard)


def make_folder(folder: Path) -> None:
    """The folder of temporary files, without those whose writers have died."""
    with disk_errors():
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # somebody else was faster, or it is still being written
                if time.time() - path.stat().st_mtime < LEFT_S:
                    continue
                number = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(number)
