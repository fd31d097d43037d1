"""Thumbnail jobs through the worker runtime: real blobs, real decoders, on the embedded broker and SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.blobs.interface import Upload
from msgd.blobs.local import LocalBlobs
from msgd.blobs.sql import SqlUploads
from msgd.broker.embedded import EmbeddedBroker
from msgd.jobs.interface import Job, State
from msgd.services.thumbnailer import decoders as module
from msgd.services.thumbnailer.decoders import Decoders
from msgd.services.thumbnailer.worker import Thumbnailer
from tests.contract.blobs import read, stored
from tests.contract.uploads import recorded
from tests.services.thumbnailer import pictures
from tests.work.world import World

reactor: Any = _reactor
SIZES = {"small": 100, "large": 200}


class WorkerTest(TestCase):
    """What a job does."""

    timeout = 180

    def folder(self) -> Path:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    async def open(self, *, seconds: int = 30) -> None:
        folder = self.folder()
        self.world = World(f"sqlite:///{folder}/msgd.sqlite3", lambda: EmbeddedBroker(folder / "b", reactor=reactor))
        await self.world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.close()))
        self.blobs = LocalBlobs(folder / "blobs", reactor=reactor)
        await self.blobs.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.blobs.stop()))
        self.uploads = SqlUploads(self.world.database, now_ms=lambda: int(self.world.clock.seconds() * 1000))
        decoders = Decoders(reactor, count=1, memory_bytes=1 << 30, pixels=10_000_000, seconds=seconds)
        await self.world.runner(Thumbnailer(self.blobs, self.uploads, decoders, SIZES))

    async def upload(self, content: bytes, id_: str = "u1", owner: str = "ann") -> str:
        blob = await stored(self.blobs, content)
        made = Upload(id=id_, owner=owner, name="cat.jpg", media_type="x", size=blob.size, blob=blob.name, created_ms=1)
        await recorded(self.uploads, made)
        return id_

    async def job(self, upload: str, state: State = State.DONE, owner: str = "ann", **params: Any) -> Job:
        """A job of an upload, once it has ended."""
        job = await self.world.submit("thumbnail", {"upload": upload, **params}, owner=owner)
        return await self.world.ended(job, state)

    def told(self, job: Job) -> dict[str, Any]:
        """The data of the pictures' events, by name, each id once."""
        kept = {
            event.id: msgspec.json.decode(event.data) for event in self.world.of(job.id) if event.type == "thumbnail"
        }
        return {data["name"]: data for data in kept.values()}

    async def test_made(self) -> None:
        """Pictures are stored, recorded and told, each under its name."""
        await self.open()
        job = await self.job(await self.upload(pictures.jpeg()))
        self.assertEqual(msgspec.json.decode(job.result or b""), {"pictures": 2})
        found = {one.name: one for one in (await self.uploads.pictures(["u1"]))["u1"]}
        for name, width in (("small", 100), ("large", 200)):
            content = await read(self.blobs, found[name].blob)
            self.assertEqual(pictures.opened(content).width, width)
            expected = {"name": name, "url": f"/uploads/u1/{name}", "width": width, "height": width * 3 // 4,
                        "bytes": len(content)}  # fmt: skip
            self.assertEqual(self.told(job)[name], expected)

    async def test_what_is_there_stays(self) -> None:
        """A second job makes what is missing, tells of all that it names, and changes nothing that was there."""
        await self.open()
        await self.job(await self.upload(pictures.jpeg()))
        before = (await self.uploads.pictures(["u1"]))["u1"]
        job = await self.job("u1", sizes={"small": 77, "tiny": 20})
        self.assertEqual({name: one["width"] for name, one in self.told(job).items()}, {"small": 100, "tiny": 20})
        after = (await self.uploads.pictures(["u1"]))["u1"]
        self.assertEqual([one for one in after if one.name != "tiny"], before)

    async def test_not_found(self) -> None:
        """No such upload, one of somebody else, one whose bytes are gone; who has no name, as AMQP clients, may."""
        await self.open()
        upload = await self.upload(pictures.jpeg(), owner="ben")
        for id_, owner in (("nothing", "ann"), (upload, "ann")):
            job = await self.job(id_, State.FAILED, owner)
            self.assertEqual(job.error.code if job.error else "", "not-found")
        await self.job(upload, owner="")
        gone = await self.upload(b"gone", "u2")
        await self.blobs.delete((await self.uploads.get(gone)).blob)
        job = await self.job(gone, State.FAILED)
        self.assertIn("not in the storage", job.error.message if job.error else "")

    async def test_no_picture(self) -> None:
        """What is no picture fails at once, with the file's name and the reason."""
        await self.open()
        for number, (content, code) in enumerate(
            ((pictures.SVG, "not-a-picture"), (pictures.jpeg()[:2000], "damaged"), (pictures.bomb(), "too-many-pixels"))
        ):
            job = await self.job(await self.upload(content, f"u{number}"), State.FAILED)
            self.assertEqual(job.error.code if job.error else "", code)
            self.assertTrue(job.error and job.error.message.startswith("cat.jpg: the file "))
            self.assertNotIn("retrying", self.world.types(job.id))

    async def test_a_crash_costs_one_job_an_error(self) -> None:
        """A file that crashes its decoder is tried once more, then fails; the next job is done."""
        await self.open()
        self.patch(module, "PROGRAM", "tests.services.thumbnailer.hanging")
        upload = await self.upload(b"exit")
        job = await self.world.submit("thumbnail", {"upload": upload}, owner="ann")
        await self.world.event(job, "retrying")
        await self.world.advance(5)
        failed = await self.world.ended(job, State.FAILED)
        self.assertEqual(failed.error.code if failed.error else "", "decoder-died")
        self.assertEqual(self.world.types(job).count("retrying"), 1)
        self.patch(module, "PROGRAM", "msgd.services.thumbnailer.decoding")
        await self.job(await self.upload(pictures.jpeg(), "u2"))

    async def test_too_slow(self) -> None:
        """A file that takes too long fails at once: it would take as long again."""
        await self.open(seconds=1)
        self.patch(module, "PROGRAM", "tests.services.thumbnailer.hanging")
        job = await self.job(await self.upload(b"hang"), State.FAILED)
        self.assertEqual(job.error.code if job.error else "", "decoder-too-slow")
