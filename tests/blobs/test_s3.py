"""Blobs in S3: the contract on a real server (moto), and what only a server can do wrong."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.blobs import s3 as module
from msgd.blobs.s3 import Place, S3Blobs, parse_place
from msgd.errors import ConfigError, StorageUnavailable
from tests.contract.blobs import NOBODY, BlobsCases, read, stored
from tests.servers import s3


class S3Tests(BlobsCases, TestCase):
    """The suite, and more."""

    async def make(self, url: str = "") -> S3Blobs:
        self.patch(os, "environ", {**os.environ, **s3.CREDENTIALS})
        self.url = url or s3.fresh_bucket()
        return await self.another()

    async def another(self) -> S3Blobs:
        self.spool = Path(self.mktemp())
        blobs = S3Blobs(self.url, self.spool, reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(blobs.stop()))
        await blobs.start()
        return blobs

    async def temporary_files(self) -> int:
        return len(list(self.spool.iterdir()))

    async def test_reachable(self) -> None:
        """A bucket that is there can be checked, one that is not is said to be missing."""
        blobs = await self.make()
        await blobs.check()
        blobs = await self.make(self.url.replace("s3://bucket", "s3://bucket-that-is-not-there"))
        with self.assertRaises(StorageUnavailable):
            await blobs.check()

    async def test_nobody_listens(self) -> None:
        """A server that is not there is StorageUnavailable, in words."""
        self.patch(module, "ATTEMPTS", 1)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            blobs = await self.make(f"s3://bucket?endpoint=http://127.0.0.1:{unused.getsockname()[1]}&region=x")
            for call in (blobs.size(NOBODY), read(blobs, NOBODY), stored(blobs, b"lost"), blobs.delete(NOBODY)):
                with self.assertRaises(StorageUnavailable) as caught:
                    await call
                self.assertIn("127.0.0.1", caught.exception.message)


class PlaceTest(SynchronousTestCase):
    """``[blobs] url``."""

    def test_parts(self) -> None:
        """Bucket, prefix, endpoint and region."""
        self.assertEqual(parse_place("s3://b"), Place("b"))
        self.assertEqual(parse_place("s3://b/"), Place("b"))
        self.assertEqual(parse_place("s3://b/some/where/"), Place("b", "some/where/"))
        self.assertEqual(
            parse_place("s3://b/x?endpoint=https://s3.example.com:9000&region=eu"),
            Place("b", "x/", "https://s3.example.com:9000", "eu"),
        )

    def test_refused(self) -> None:
        """What says something else is refused: credentials too, which would end up in logs."""
        for url in ("s3:", "s3://", "s3://b?what=1", "s3://key:secret@b", "s3://b?region=a&region=b", "s3://b?region"):
            with self.assertRaises(ConfigError):
                parse_place(url)
