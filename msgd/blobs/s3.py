"""Blobs in storage that speaks S3: one object each, ``<prefix>/abcd…``.

Content is spooled to a local file first, as its name is known only at its end; the object then appears at once, when
its only part, or the last of several, has come. boto3 blocks, so it works in threads; its clients may be shared.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct
from twisted.internet.defer import Deferred, DeferredLock

from msgd.blobs.interface import CHUNK_BYTES, Blob, BlobMissing, check_blob_name
from msgd.blobs.offload import THREADS, Offload
from msgd.blobs.spool import SpooledDraft, SpoolFile, disk_errors, make_folder
from msgd.errors import ConfigError, StorageFull, StorageUnavailable

PART_BYTES: Final = 16 * 1024 * 1024
"""Of a large object, sent in parts of so much each: a lost connection repeats no more. S3 takes 10,000 of them."""

CONNECT_S: Final = 5.0
READ_S: Final = 30.0
"""A server that says nothing for so long is tried again, then given up."""

ATTEMPTS: Final = 4
"""Of each request, with growing pauses, within some seconds: what a server needs that is being restarted."""

_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_FULL: Final = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})


class Place(Struct, frozen=True):
    """What ``[blobs] url`` says: ``s3://bucket/prefix?endpoint=https://s3.example.com&region=eu-central-1``."""

    bucket: str
    prefix: str = ""  # ends with "/", if there is one
    endpoint: str = ""  # empty: Amazon's, or what AWS_ENDPOINT_URL says
    region: str = ""  # empty: what AWS_REGION says


def parse_place(url: str) -> Place:
    """The parts of an ``s3://`` URL. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        given = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=9)
    except ValueError:
        parts, given = urlsplit("s3:"), {}
    unknown = set(given) - {"endpoint", "region"} or any(len(values) > 1 for values in given.values())
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or unknown:
        raise ConfigError(
            "the blobs' URL must be like s3://bucket/prefix?endpoint=https://s3.example.com&region=eu-central-1, with "
            "the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or where else boto3 looks for them",
            where="blobs.url",
        )
    prefix = parts.path.strip("/")
    return Place(
        parts.netloc,
        f"{prefix}/" if prefix else "",
        given.get("endpoint", [""])[0],
        given.get("region", [""])[0],
    )


class S3Blobs:
    """Implements :class:`~msgd.blobs.interface.Blobs`."""

    def __init__(self, url: str, spool: Path, *, reactor: Any) -> None:
        """``spool``: the folder of what is on its way in or out. Raises ConfigError."""
        self._place = parse_place(url)
        self._spool = spool
        self._offload = Offload(reactor)
        self._made: Any = None
        self._making = DeferredLock()

    async def start(self) -> None:
        """Make the spool's folder. Whether the storage answers, the first request tells."""
        self._offload.start()
        await self._offload.call(make_folder, self._spool)

    async def stop(self) -> None:
        self._offload.stop()

    async def check(self) -> None:
        """Whether there is the bucket, and whether we may look into it."""
        self._offload.start()
        client = await self._client()
        try:
            await self._offload.call(_ask, client.head_bucket, {"Bucket": self._place.bucket})
        except BlobMissing:
            raise StorageUnavailable(f"there is no bucket {self._place.bucket!r}", where="blobs.url") from None

    async def draft(self) -> SpooledDraft:
        client = await self._client()
        file = await self._offload.call(SpoolFile, self._spool)
        return SpooledDraft(self._offload, file, lambda path, blob: self._send(client, path, blob))

    async def size(self, name: str) -> int:
        client = await self._client()
        return await self._offload.call(_size, client, self._object(name))

    async def read(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        client, wanted = await self._client(), self._object(name)
        if start or length is not None:
            size = await self._offload.call(_size, client, wanted)
            end = size if length is None else min(size, start + length)
            if start >= end:  # S3 refuses a range of nothing
                return
            wanted = {**wanted, "Range": f"bytes={start}-{end - 1}"}
        body = (await self._offload.call(_ask, client.get_object, wanted))["Body"]
        try:
            while piece := await self._offload.call(_read, body):
                yield piece
        finally:
            await self._offload.call(body.close)

    @contextlib.asynccontextmanager
    async def local(self, name: str) -> AsyncIterator[Path]:
        file = await self._offload.call(SpoolFile, self._spool)
        try:
            pieces = self.read(name)
            try:
                async for piece in pieces:
                    await self._offload.call(file.write, piece)
            finally:
                await pieces.aclose()
            yield file.path
        finally:
            await self._offload.call(file.discard)

    async def delete(self, name: str) -> None:
        client = await self._client()
        await self._offload.call(_ask, client.delete_object, self._object(name))

    def _object(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._place.bucket, "Key": self._place.prefix + check_blob_name(name)}

    def _send(self, client: Any, path: Path, blob: Blob) -> None:
        """In a thread."""
        from boto3.s3.transfer import TransferConfig

        wanted = self._object(blob.name)
        try:
            _size(client, wanted)
        except BlobMissing:
            parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
            with _s3_errors():
                client.upload_file(str(path), wanted["Bucket"], wanted["Key"], Config=parts)

    async def _client(self) -> Any:
        """Made at its first use, in a thread: it reads some hundred kB of descriptions."""
        if self._made is None:
            self._made = await self._making.run(lambda: Deferred.fromCoroutine(self._make()))
        return self._made

    async def _make(self) -> Any:
        return self._made or await self._offload.call(_connect, self._place)


def _connect(place: Place) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=THREADS,
        # Storage that is not Amazon's may not know its newer checksums; ours is the name.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with _s3_errors():
        # A session of its own: the default one must not be made in several threads at once.
        session = boto3.session.Session(region_name=place.region or None)
        return session.client("s3", endpoint_url=place.endpoint or None, config=config)


@contextlib.contextmanager
def _s3_errors() -> Iterator[None]:
    """What boto3 raises, in our words."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _GONE:
            raise BlobMissing("the storage has no such blob", where="blob") from None
        if code in _FULL:
            raise StorageFull(f"the storage of blobs is full: {code}") from None
        raise StorageUnavailable(f"the storage of blobs refuses: {error}", where="blobs.url") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StorageUnavailable(f"the storage of blobs cannot be used: {error}", where="blobs.url") from None


def _ask(operation: Any, arguments: dict[str, Any]) -> Any:
    with _s3_errors():
        return operation(**arguments)


def _size(client: Any, wanted: dict[str, Any]) -> int:
    return int(_ask(client.head_object, wanted)["ContentLength"])


def _read(body: Any) -> bytes:
    from urllib3.exceptions import HTTPError

    try:
        with _s3_errors(), disk_errors():
            piece: bytes = body.read(CHUNK_BYTES)
            return piece
    except HTTPError as error:
        raise StorageUnavailable(f"the storage of blobs broke off: {error}", where="blobs.url") from None
