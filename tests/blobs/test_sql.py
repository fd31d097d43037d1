"""The contract of uploads on both databases, and the sweeper that relies on it."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from msgd.blobs import sweeping
from msgd.blobs.interface import BlobMissing
from msgd.blobs.local import LocalBlobs
from msgd.blobs.sql import SqlUploads
from msgd.blobs.sweeping import Sweeper
from msgd.database import Database
from msgd.errors import StorageUnavailable
from msgd.jobs.interface import Submission
from msgd.jobs.sql import SqlJobs
from tests.contract.blobs import name_of, stored
from tests.contract.uploads import UploadsCases, recorded, upload
from tests.servers import postgres

DAY_MS = 24 * 3600 * 1000


class _OnDatabase(UploadsCases):
    def url(self) -> str:
        raise NotImplementedError

    async def make(self) -> SqlUploads:
        self.database = Database(self.url(), reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        await self.database.start()
        self.jobs = SqlJobs(self.database, clock=Clock())
        return await self.another()

    async def another(self) -> SqlUploads:
        return SqlUploads(self.database, now_ms=self.now_ms)

    async def test_swept(self) -> None:
        """The sweeper deletes what is unused, and lets what is shared stay."""
        uploads = await self.make()
        blobs = LocalBlobs(Path(self.mktemp()), reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(blobs.stop()))
        await blobs.start()
        await stored(blobs, b"one")
        await stored(blobs, b"two")
        await recorded(uploads, upload("01", blob=name_of(b"one")))
        await recorded(uploads, upload("02", blob=name_of(b"two")))
        await recorded(uploads, upload("03", blob=name_of(b"two")))
        await uploads.delete("01")
        await uploads.delete("02")
        sweeper = Sweeper(blobs, uploads, self.jobs, Clock())
        self.assertEqual([await sweeper.sweep(), await sweeper.sweep()], [1, 0])
        with self.assertRaises(BlobMissing):
            await blobs.size(name_of(b"one"))
        self.assertEqual(await blobs.size(name_of(b"two")), 3)
        await uploads.hold(name_of(b"one"))  # it may come again at once

    async def test_swept_later(self) -> None:
        """While the storage is away nothing is swept, and nothing is lost sight of."""
        uploads = await self.make()
        blobs = LocalBlobs(Path(self.mktemp()), reactor=reactor)
        await recorded(uploads, upload("01"))
        await uploads.delete("01")
        self.assertEqual(await Sweeper(blobs, uploads, self.jobs, Clock()).sweep(), 0)
        with self.assertRaises(StorageUnavailable):
            await uploads.hold("a" * 64)
        self.time_ms += 3_600_000
        self.assertEqual(await uploads.unused(), ["a" * 64])

    async def test_retention(self) -> None:
        """What is too old goes with its bytes, unless a job that has not ended names it: that is asked for again when
        it is as old once more. What is younger stays."""
        self.patch(sweeping, "EXPIRED", 3)
        uploads = await self.make()
        blobs = LocalBlobs(Path(self.mktemp()), reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(blobs.stop()))
        await blobs.start()
        clock = Clock()
        clock.advance(self.time_ms / 1000)
        for number in range(8):
            blob = await stored(blobs, b"%d" % number)
            await recorded(uploads, upload(f"u{number}", blob=blob.name, created_ms=self.time_ms))
        job = await self.jobs.submit(Submission(type="mail", params=b'{"to": {"upload": "u1"}, "attachments": ["u2"]}'))
        sweeper = Sweeper(blobs, uploads, self.jobs, clock, age_ms=DAY_MS)
        self.assertEqual((await sweeper.expire(), await Sweeper(blobs, uploads, self.jobs, clock).expire()), (0, 0))

        def later(days: float) -> None:
            clock.advance(days * DAY_MS / 1000)
            self.time_ms += round(days * DAY_MS)

        later(1.1)
        await recorded(uploads, upload("young", created_ms=self.time_ms))
        self.assertEqual([await sweeper.expire(), await sweeper.expire()], [6, 0])
        self.assertEqual([one.id for one in await uploads.list("")], ["young", "u2", "u1"])
        self.assertEqual(await sweeper.sweep(), 6)
        self.assertEqual([await blobs.size(name_of(b"%d" % number)) for number in (1, 2)], [1, 1])
        await self.jobs.cancel(job.job.id)
        self.assertEqual(await sweeper.expire(), 0)
        later(1.1)
        self.assertEqual(await sweeper.expire(), 3)

    async def test_retention_waits(self) -> None:
        """While the database is away nothing is forgotten; the next look does it."""
        uploads = await self.make()
        await recorded(uploads, upload("01"))
        clock = Clock()
        clock.advance(self.time_ms / 1000)
        sweeper = Sweeper(LocalBlobs(Path(self.mktemp()), reactor=reactor), uploads, self.jobs, clock, age_ms=DAY_MS)
        await self.database.stop()
        self.assertEqual(await sweeper.expire(), 0)
        await self.database.start()
        self.assertEqual(await sweeper.expire(), 1)


class SQLiteTests(_OnDatabase, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"


class PostgreSQLTests(_OnDatabase, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)
