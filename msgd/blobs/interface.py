"""The contracts of blobs and uploads.

*Blobs* are content, each under the name that its bytes give it: what is published once is never written again, and
never changes. *Uploads* are rows: who has sent which file, which blob it is, and which pictures were made of it.
Several of them may share a blob, so a blob is deleted only when none refers to it. To keep that true while files come
and go at the same time, whoever stores a blob does it in this order::

    blob = await draft.finish()         # its bytes are safe here, its name is known
    await uploads.hold(blob.name)       # nobody deletes it for an hour
    await draft.publish()               # readers find it
    await uploads.make([upload], …)     # or add(pictures): now something refers to it

What a crash leaves between two of these steps is held by nobody after that hour, and goes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from msgd.database import Transaction
from msgd.errors import NotFound, TooLarge

T = TypeVar("T")

CHUNK_BYTES: Final = 256 * 1024
"""Read or written in one trip to a thread: a trip costs about as much as copying so much."""

HOLD_MS: Final = 3_600_000
"""For which a held blob is not deleted: longer than any publish takes."""

DELETING_MS: Final = 600_000
"""For which a blob may be on its way out: after that its deleter has died, and others may store it again."""

_NAME: Final = re.compile(r"[0-9a-f]{64}")


class Blob(Struct, frozen=True):
    """Some content: its name, the SHA-256 of its bytes in lower-case hex, and their number."""

    name: str
    size: int


class BlobMissing(NotFound):
    """There is no blob of that name."""


def check_blob_name(name: str) -> str:
    """``name`` if a blob can have it, else raises BlobMissing: nothing else ever becomes part of a path."""
    if not _NAME.fullmatch(name):
        raise BlobMissing(f"{name[:80]!r} is not the name of a blob", where="blob")
    return name


class Draft(Protocol):
    """Content on its way in, which nobody sees before it is published.

    All its calls may raise StorageFull or StorageUnavailable; then it can only be discarded. They are made one after
    the other.
    """

    @property
    def size(self) -> int:
        """Bytes written so far."""

    async def write(self, data: bytes) -> None:
        """Append. To be awaited before the next piece is asked for: that is the backpressure."""

    async def finish(self) -> Blob:
        """Nothing more comes. Returns when the bytes would survive a crash of the machine."""

    async def publish(self) -> None:
        """After :meth:`finish`: readers find it from now on, whole, also after a crash of the machine. Content that is
        there already is not written again."""

    async def discard(self) -> None:
        """Forget it, also in the middle of another call that was cancelled. Harmless after publish, and twice."""


class Blobs(Protocol):
    """Where content lies. Its calls raise StorageUnavailable while that cannot be reached."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def check(self) -> None:
        """Raises StorageUnavailable if nothing could be stored now, as far as that can be told without storing; also
        before the start, to be stopped all the same."""

    async def draft(self) -> Draft:
        """Begin to store something. Discard it in the end, whatever happens."""

    async def size(self, name: str) -> int:
        """Bytes of a blob. Raises BlobMissing."""

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """A blob's bytes from ``start`` on, ``length`` of them or all, in pieces of at most :data:`CHUNK_BYTES`; fewer
        where the blob ends. Raises BlobMissing with the first piece. Close it (``aclose``) if not read to its end."""

    def local(self, name: str) -> AbstractAsyncContextManager[Path]:
        """A file of this machine with a blob's bytes, to be read only and only inside ``async with``. Raises
        BlobMissing."""

    async def delete(self, name: str) -> None:
        """Forget a blob; harmless if there is none. Only for whom :meth:`Uploads.unused` has given the name."""


class Upload(Struct, frozen=True, kw_only=True):
    """A file that somebody has sent."""

    id: str
    owner: str  # a sub
    name: str  # as the sender called it, without folders and control characters
    media_type: str  # told by its bytes
    size: int
    blob: str
    created_ms: int
    job: str = ""  # the one that makes its pictures


class Picture(Struct, frozen=True, kw_only=True):
    """A picture that was made of an upload; ``name`` tells it from the others, such as ``small``."""

    name: str
    blob: str
    media_type: str
    size: int
    width: int
    height: int


class Usage(Struct, frozen=True):
    """What the uploads of one owner amount to; what is made of them does not count."""

    bytes: int = 0
    files: int = 0


class Quota(Struct, frozen=True):
    """What the uploads of one owner may amount to; 0 sets no limit."""

    bytes: int = 0
    files: int = 0

    def check(self, usage: Usage, more: Usage) -> None:
        """Raises QuotaExceeded if there is no room for ``more``."""
        if self.bytes and usage.bytes + more.bytes > self.bytes:
            raise QuotaExceeded(
                f"your uploads take {usage.bytes:,} of {self.bytes:,} bytes, and there is no room for this:"
                " delete some that you need no more"
            )
        if self.files and usage.files + more.files > self.files:
            raise QuotaExceeded(
                f"you have {usage.files:,} of {self.files:,} uploads, and there is no room for this:"
                " delete some that you need no more"
            )


NO_QUOTA: Final = Quota()


class QuotaExceeded(TooLarge):
    """More than one owner may have."""

    code = "quota-exceeded"


class Uploads(Protocol):
    """The records. Its calls raise DatabaseUnavailable."""

    async def hold(self, blob: str) -> None:
        """Keep a blob that is about to be published from being deleted, for :data:`HOLD_MS`. Raises StorageUnavailable
        while the same content is just being deleted: a moment later it may be held."""

    async def make(self, uploads: Sequence[Upload], write: Callable[[Transaction], T], *, quota: Quota = NO_QUOTA) -> T:
        """Record uploads of one owner under new ids, all or none, in one transaction with ``write``, whose value is
        returned; their blobs are held, and published. Raises QuotaExceeded, however many are made at the same time."""

    async def usage(self, owner: str) -> Usage:
        """What an owner's uploads amount to now."""

    async def get(self, id_: str) -> Upload:
        """Raises NotFound."""

    async def list(self, owner: str, *, before: str = "", limit: int = 50) -> Sequence[Upload]:
        """Those of ``owner`` (of everybody, if empty), newest first; ``before``: only what is older than this id."""

    async def pictures(self, ids: Sequence[str]) -> dict[str, Sequence[Picture]]:
        """The pictures made so far of each of these uploads, by name; of an unknown one none."""

    async def add(self, id_: str, pictures: Sequence[Picture]) -> Sequence[Picture]:
        """Record pictures, whose blobs are held and published; returns those that count now. What was made once under a
        name stays, as its address may have been kept for good. Raises NotFound."""

    async def delete(self, id_: str) -> None:
        """Forget an upload and its pictures. Raises NotFound."""

    async def old(self, before_ms: int, *, limit: int = 100) -> Sequence[str]:
        """Uploads that were made, and last needed, before then, the oldest first."""

    async def needed(self, ids: Collection[str]) -> None:
        """Something needs these uploads now."""

    async def expire(self, ids: Collection[str], before_ms: int) -> int:
        """Forget those of these uploads that are still so old; how many. What others change just now stays."""

    async def unused(self, limit: int = 100) -> Sequence[str]:
        """Blobs that nobody refers to or holds any more, to be deleted at once, then :meth:`gone`. Until then (or
        :data:`DELETING_MS`) nobody may hold them."""

    async def gone(self, blobs: Sequence[str]) -> None:
        """These have been deleted."""
