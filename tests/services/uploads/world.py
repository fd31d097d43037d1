"""A notifier that takes uploads, on real parts, and nobody who makes thumbnails."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred

from msgd.blobs.local import LocalBlobs
from msgd.blobs.sql import SqlUploads
from msgd.config.settings import Uploads as Limits
from msgd.messages.ids import new_id
from msgd.notifier.interface import Orders, Route
from msgd.services.thumbnailer.params import THUMBNAIL
from msgd.services.uploads.api import UploadsApi
from tests.notifier.world import World, WorldCase, reactor
from tests.services.thumbnailer import pictures

JPEG: Final = pictures.jpeg(40, 30)
BOUNDARY: Final = "limit"
FORM: Final = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
END: Final = f"--{BOUNDARY}--\r\n".encode()


def part(content: bytes, name: str = "cat.jpg", more: str = "") -> bytes:
    """A file of a form."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n{more}\r\n'
    return head.encode() + content + b"\r\n"


class UploadsWorld(World):
    """Everything that uploads need."""

    def __init__(self, limits: Limits) -> None:
        self.blobs_folder = Path(tempfile.mkdtemp(prefix="msgd-blobs-"))
        self.blobs = LocalBlobs(self.blobs_folder, reactor=reactor)
        self.later_ms = 0  # by which the uploads' clock is ahead
        self._limits = limits
        super().__init__(mounts=[self._routes])

    def _routes(self, orders: Orders) -> Sequence[Route]:
        self.uploads = SqlUploads(self.database, now_ms=lambda: self.now_ms() + self.later_ms)
        return UploadsApi(
            orders,
            self.blobs,
            self.uploads,
            self.jobs,
            limits=self._limits,
            sizes=("small", "large"),
            now_ms=self.now_ms,
            new_id=new_id,
        ).routes()

    async def start(self, *, broker: bool = True) -> None:
        await self.blobs.start()
        await super().start(broker=broker)
        await self.jobs.announce(THUMBNAIL.info())

    async def stop(self) -> None:
        await super().stop()
        await self.blobs.stop()
        shutil.rmtree(self.blobs_folder)

    def left(self) -> list[str]:
        """What lies in the folder of blobs."""
        return sorted(path.name for path in self.blobs_folder.rglob("*") if path.is_file())


class UploadsCase(WorldCase):
    """A test with such a notifier."""

    async def taking(self, limits: Limits | None = None) -> UploadsWorld:
        world = UploadsWorld(limits or Limits())
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start()
        return world

    async def send(self, world: World, content: bytes, query: str = "name=cat.jpg", **options: Any) -> Any:
        """What a body that is taken is answered with."""
        status, made, _ = await world.call("POST", f"/api/uploads?{query}", raw=content, **options)
        self.assertEqual(status, 201, made)
        return made

    async def refused(self, world: UploadsWorld, content: bytes, status: int, **options: Any) -> str:
        """What is said of a body that is refused, of which nothing is left."""
        before = world.left()
        path = options.pop("path", "/api/uploads?name=cat.jpg")
        found, problem, _ = await world.call("POST", path, raw=content, **options)
        self.assertEqual(found, status, problem)
        self.assertEqual(world.left(), before)
        detail: str = problem["detail"]
        return detail
