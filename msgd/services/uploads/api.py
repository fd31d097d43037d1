"""``/api/uploads`` and ``/uploads``: files taken, listed, given back with the pictures made of them, and forgotten.

Who may submit a job type that reads uploads (``thumbnail``, ``mail``) may upload; pictures have thumbnails made, which
takes ``submit:thumbnail``. An upload is its owner's to list, read and delete. Whoever may read the topic of the job
that makes its pictures may see those too: who is shown that a picture has come may look at it. The original, in which a
camera may have written where it was, stays its owner's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Raw, structs

from msgd.blobs.interface import BlobMissing, Blobs, Picture, Quota, Upload, Uploads
from msgd.config.settings import Uploads as Limits
from msgd.errors import Gone, InvalidInput, MsgdError, NotFound
from msgd.jobs.interface import Jobs, State, Submission
from msgd.messages import json
from msgd.messages.ids import IdMaker
from msgd.messages.topics import is_word, job_topic
from msgd.messages.wire import format_time
from msgd.notifier.interface import (
    Answer,
    Call,
    JobRequest,
    Orders,
    Principal,
    Reply,
    Route,
    answer,
)
from msgd.services.uploads.receiving import Received, Receiver
from msgd.services.uploads.serving import File, serve
from msgd.services.uploads.sniff import PICTURES

THUMBNAIL: Final = "thumbnail"
"""The job type that makes pictures."""

READERS: Final = (THUMBNAIL, "mail")
"""Job types that read uploads."""

ORIGINAL: Final = "original"
"""The name of the uploaded file itself, among those of its pictures."""

POLL_S: Final = 2.0
"""When to ask again for a picture that is being made: most take less."""

PAGE_DEFAULT: Final = 50
PAGE_MOST: Final = 200
"""Uploads in one answer, each with its pictures."""

WITHOUT: Final = ("0", "false", "no")


class NotReady(NotFound):
    """A picture that is not there yet."""

    code = "not-ready"


class UploadsApi:
    """The routes."""

    def __init__(
        self,
        orders: Orders,
        blobs: Blobs,
        uploads: Uploads,
        jobs: Jobs,
        *,
        limits: Limits,
        sizes: Sequence[str],
        now_ms: Callable[[], int],
        new_id: IdMaker,
    ) -> None:
        """``sizes``: the names of the pictures that are made, the largest last."""
        self._orders = orders
        self._blobs = blobs
        self._uploads = uploads
        self._jobs = jobs
        self._receiver = Receiver(blobs, limits)
        self._limits = limits
        self._quota = Quota(limits.quota_bytes, limits.quota_files)
        self._sizes = tuple(sizes)
        self._now_ms = now_ms
        self._new_id = new_id

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="/api/uploads",
                endpoint=self.upload,
                streamed=True,
                body_bytes=self._limits.request_bytes,
                takes=(),  # any kind of file; that a page of ours sends it, its origin tells
            ),
            Route(method="GET", path="/api/uploads", endpoint=self.list),
            Route(method="GET", path="/api/uploads/{id}", endpoint=self.show),
            Route(method="DELETE", path="/api/uploads/{id}", endpoint=self.delete),
            Route(method="GET", path="/uploads/{id}/{name}", endpoint=self.file, produces=()),
        )

    # -- taking -------------------------------------------------------------------------------------------------------

    async def upload(self, call: Call) -> Answer:
        """Take one file or several, and have the pictures among them made smaller. All are taken, or none."""
        who = call.principal
        thumbnails = call.text("thumbnails") not in WITHOUT
        may = [type_ for type_ in READERS if who.may_submit(type_)]
        who.require(bool(may), f"uploading, which takes submit:{' or submit:'.join(READERS)}")
        if thumbnails and THUMBNAIL in may:
            self._orders.check_submit(who, THUMBNAIL)
        name = call.text("name")
        usage = await self._uploads.usage(who.sub)
        fits = partial(self._quota.check, usage)
        async with self._receiver.receive(call.chunks(), call.header("content-type"), name, fits) as received:
            if thumbnails and any(one.media_type in PICTURES for one in received):
                self._orders.check_submit(who, THUMBNAIL)
            made = await self._keep(call, received, thumbnails)
        views = [self._view(one, (), one.job) for one in made]
        shown = views[0] if len(views) == 1 else views
        location = {"location": f"/api/uploads/{made[0].id}"} if len(made) == 1 else {}
        return answer(shown, status=201, headers=location)

    async def _keep(self, call: Call, received: Sequence[Received], thumbnails: bool) -> list[Upload]:
        """Publish them (the order that ``blobs.interface`` asks for), then record them all with the jobs that make
        their pictures: whoever dies when, no upload waits for pictures that nobody was told to make."""
        made: list[Upload] = []
        ordered: list[Submission] = []
        for one in received:
            await self._uploads.hold(one.blob.name)
            await one.draft.publish()
            now_ms = self._now_ms()
            upload = Upload(
                id=self._new_id(now_ms),
                owner=call.principal.sub,
                name=one.name,
                media_type=one.media_type,
                size=one.blob.size,
                blob=one.blob.name,
                created_ms=now_ms,
                job=self._new_id(now_ms) if thumbnails and one.media_type in PICTURES else "",
            )
            made.append(upload)
            if upload.job:
                ordered.append(await self._order(call, upload))
        # A client that goes away in this moment is not told of what may be kept all the same, and finds it in its list.
        rows = await self._uploads.make(
            made, lambda transaction: self._jobs.submit_within(transaction, ordered), quota=self._quota
        )
        self._jobs.post(rows)
        return made

    async def _order(self, call: Call, upload: Upload) -> Submission:
        """The job that makes an upload's pictures."""
        request = JobRequest(type=THUMBNAIL, params=Raw(json.encode({"upload": upload.id, "name": upload.name})))
        checked = await self._orders.submission(call.principal, request, traceparent=call.header("traceparent"))
        return structs.replace(checked, id=upload.job)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def list(self, call: Call) -> Answer:
        """One's own uploads, newest first, each with the pictures made so far."""
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        before = call.text("before")
        if before and not is_word(before):
            raise InvalidInput("before must be an upload's id", where="before")
        found = await self._uploads.list(call.principal.sub, before=before, limit=limit + 1)
        page = found[:limit]
        pictures = await self._uploads.pictures([one.id for one in page])
        return answer(
            {
                "uploads": [self._view(one, pictures[one.id], one.job) for one in page],
                "before": page[-1].id if len(found) > limit else None,
                "limits": {
                    "file_bytes": self._limits.file_bytes,
                    "request_bytes": self._limits.request_bytes,
                    "files": self._limits.files,
                    "quota_bytes": self._quota.bytes or None,
                    "quota_files": self._quota.files or None,
                    "days": self._limits.days or None,
                },
                "used": await self._uploads.usage(call.principal.sub),
            }
        )

    async def show(self, call: Call) -> Answer:
        """One upload."""
        upload = await self._readable(call)
        pictures = await self._uploads.pictures([upload.id])
        return answer(self._view(upload, pictures[upload.id], upload.job))

    async def delete(self, call: Call) -> Answer:
        """Forget an upload and its pictures; a job that still makes them is cancelled."""
        who, upload = call.principal, await self._readable(call, whole=True)
        await self._uploads.delete(upload.id)
        if upload.job:
            with contextlib.suppress(NotFound):  # it was purged long ago
                await self._orders.cancel(who, upload.job)
        return Answer(status=204, content_type="")

    async def file(self, call: Call) -> Reply:
        """The file itself, or a picture of it; 404 with ``Retry-After`` until that is there, 410 if it will not be."""
        name = call.words["name"]
        upload = await self._readable(call, whole=name == ORIGINAL)
        try:
            if name == ORIGINAL:
                return await serve(self._blobs, File(upload.blob, upload.size, upload.media_type, upload.name), call)
            for one in (await self._uploads.pictures([upload.id]))[upload.id]:
                if one.name == name:
                    shown = f"{name}-{upload.name.rpartition('.')[0] or upload.name}.{one.media_type.partition('/')[2]}"
                    return await serve(self._blobs, File(one.blob, one.size, one.media_type, shown), call)
        except BlobMissing:
            raise NotReady(f"{name} is not there yet", where="name", retry_after=POLL_S) from None
        raise await self._not_there(call.principal, upload, name)

    async def _not_there(self, who: Principal, upload: Upload, name: str) -> MsgdError:
        never = NotFound(f"there is no {name[:80]!r} of this upload", where="name")
        if not upload.job:
            return never
        try:
            job = await self._orders.job(who, upload.job)
        except NotFound:
            return never
        state = job.shown_state
        if state is State.FAILED and job.error is not None:
            return Gone(f"{name[:80]!r} cannot be made: {job.error.message}", where="name")
        if state is State.CANCELLED:
            return Gone(f"{name[:80]!r} is not made: its job was cancelled", where="name")
        if state is State.DONE:
            return never
        return NotReady(f"{name[:80]!r} is not there yet", where="name", retry_after=POLL_S)

    async def _readable(self, call: Call, *, whole: bool = False) -> Upload:
        """The upload that is asked for. ``whole``: the file itself, not what was made of it."""
        who, id_ = call.principal, call.words["id"]
        unknown = NotFound(f"there is no upload {id_[:80]!r}, or it is not yours to see", where="id")
        if not is_word(id_):
            raise unknown
        try:
            upload = await self._uploads.get(id_)
        except NotFound:
            raise unknown from None
        shared = not whole and bool(upload.job) and who.may_watch(upload.job, "")
        if upload.owner != who.sub and not shared and not who.administers("#"):
            raise unknown
        return upload

    def _view(self, upload: Upload, pictures: Sequence[Picture], job: str) -> dict[str, Any]:
        names = [*self._sizes, *(one.name for one in pictures if one.name not in self._sizes)] if job else []
        return {
            "id": upload.id,
            "name": upload.name,
            "type": upload.media_type,
            "size": upload.size,
            "created": format_time(upload.created_ms),
            "urls": {name: f"/uploads/{upload.id}/{name}" for name in (*names, ORIGINAL)},
            "pictures": [
                {
                    "name": one.name,
                    "url": f"/uploads/{upload.id}/{one.name}",
                    "width": one.width,
                    "height": one.height,
                    "bytes": one.size,
                }
                for one in sorted(pictures, key=lambda one: one.width * one.height)
            ],
            "job": job or None,
            "topic": job_topic(job) if job else None,
        }
