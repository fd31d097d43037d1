"""The thumbnailer as a worker: an upload's pictures decoded, stored, recorded, told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from twisted.internet.defer import gatherResults

from msgd.blobs.interface import CHUNK_BYTES, BlobMissing, Blobs, Picture, Upload, Uploads
from msgd.errors import NotFound
from msgd.services.thumbnailer.decoders import DecoderDied, Decoders, DecoderTooSlow, NoPictures
from msgd.services.thumbnailer.frames import Made, Size
from msgd.services.thumbnailer.params import THUMBNAIL, ThumbnailParams
from msgd.work.interface import Context, Done, Failed, Outcome, Retry

AGAIN_S: Final = 1.0
"""A decoder that died is tried once more: whoever killed it may have meant something else."""

DEATHS: Final = 2
"""The death at which the file is to blame."""


class Thumbnailer:
    """Performs ``thumbnail`` jobs. Conforms to :class:`~msgd.work.interface.Worker`."""

    type = THUMBNAIL

    def __init__(self, blobs: Blobs, uploads: Uploads, decoders: Decoders, sizes: Mapping[str, int]) -> None:
        """``sizes``: the pictures that are made where a job names none: pixels of the longer side, by name."""
        self._blobs = blobs
        self._uploads = uploads
        self._decoders = decoders
        self._sizes = sizes

    async def start(self) -> None:
        """Nothing to start: decoders are started for the first file."""

    async def stop(self) -> None:
        """End the decoders."""
        await self._decoders.stop()

    async def perform(self, context: Context[ThumbnailParams]) -> Outcome:
        """All pictures of an upload. What was made before, by this job or another one, stays, and is told again."""
        params = context.params
        sizes = self._sizes if params.sizes is None else params.sizes
        try:
            upload = await self._uploads.get(params.upload)
            if context.job.owner not in ("", upload.owner):
                raise NotFound("somebody else's")
            standing = (await self._uploads.pictures([upload.id]))[upload.id]
            known = {one.name for one in standing}
            made = await self._make(upload, [Size(name, sizes[name]) for name in sizes if name not in known])
            if made:
                standing = await self._uploads.add(upload.id, made)
        except BlobMissing:
            return Failed("not-found", f"the bytes of the upload {params.upload} are not in the storage of blobs")
        except NotFound:
            return Failed("not-found", f"there is no upload {params.upload}, or it is somebody else's")
        except NoPictures as refusal:
            return Failed(refusal.code, f"{upload.name}: {refusal.message}")
        except DecoderDied as death:
            if isinstance(death, DecoderTooSlow) or context.job.attempt + 1 >= DEATHS:
                return Failed(death.code, f"{upload.name}: {death.message}")
            return Retry(death.code, f"{upload.name}: {death.message}", AGAIN_S)
        shown = [one for one in standing if one.name in sizes]
        await gatherResults([context.emit("thumbnail", _view(upload, one), key=one.name) for one in shown])
        return Done({"pictures": len(shown)})

    async def _make(self, upload: Upload, sizes: Sequence[Size]) -> Sequence[Picture]:
        if not sizes:
            return ()
        async with self._blobs.local(upload.blob) as path:
            made = await self._decoders.shrink(path, sizes)
        return [await self._store(one) for one in made]

    async def _store(self, made: Made) -> Picture:
        """In the order that ``blobs.interface`` asks for."""
        draft = await self._blobs.draft()
        try:
            for start in range(0, len(made.content), CHUNK_BYTES):
                await draft.write(made.content[start : start + CHUNK_BYTES])
            blob = await draft.finish()
            await self._uploads.hold(blob.name)
            await draft.publish()
        finally:
            await draft.discard()
        return Picture(
            name=made.name,
            blob=blob.name,
            media_type=made.media_type,
            size=blob.size,
            width=made.width,
            height=made.height,
        )


def _view(upload: Upload, picture: Picture) -> dict[str, object]:
    return {
        "name": picture.name,
        "url": f"/uploads/{upload.id}/{picture.name}",
        "width": picture.width,
        "height": picture.height,
        "bytes": picture.size,
    }
