"""Forgets uploads that are too old, and deletes blobs that nobody needs any more: theirs, those of deleted uploads, and
what a crash left unclaimed."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.blobs.interface import DELETING_MS, Blobs, Uploads
from msgd.clock import milliseconds
from msgd.errors import Unavailable
from msgd.jobs.interface import Jobs

_log = Logger()

SWEEP_S: Final = 60.0
"""Between two looks: nobody waits for the room, and each look is one small transaction."""

EXPIRED: Final = 100
"""Uploads in one transaction that forgets them, with their pictures."""


class Sweeper:
    """Looks now and then. Several may, of any process; each blob is one's. A :class:`~msgd.work.parts.Part`."""

    def __init__(self, blobs: Blobs, uploads: Uploads, jobs: Jobs, clock: Any, *, age_ms: int | None = None) -> None:
        """``age_ms``: for which uploads are kept; None: until they are deleted."""
        self._blobs = blobs
        self._uploads = uploads
        self._jobs = jobs
        self._clock = clock
        self._age_ms = age_ms
        self._sweeping: Deferred[None] | None = None
        self._looking = LoopingCall(self._begin)
        self._looking.clock = clock

    async def start(self) -> None:
        self._looking.start(SWEEP_S, now=False)

    async def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _begin(self) -> Deferred[None]:
        sweeping: Deferred[Any] = Deferred.fromCoroutine(self._look())
        self._sweeping = sweeping.addCallbacks(lambda _: None, _failed)
        return self._sweeping

    async def _look(self) -> None:
        await self.expire()
        await self.sweep()

    async def expire(self) -> int:
        """Forget all uploads that are too old, but for those that a job still needs: they are young again, so that
        they are not asked for every minute. How many went. What cannot be done now is done another time."""
        count = 0
        if self._age_ms is None:
            return count
        before_ms = milliseconds(self._clock) - self._age_ms
        try:
            while old := await self._uploads.old(before_ms, limit=EXPIRED):
                needed = await self._jobs.mentioned(old)
                if needed:
                    await self._uploads.needed(needed)
                gone = await self._uploads.expire(set(old) - needed, before_ms)
                count += gone
                if gone + len(needed) < EXPIRED:
                    break  # these were all, or another process is at some of them
        except Unavailable as error:
            _log.warn("old uploads are forgotten later: {error}", error=error)
        return count

    async def sweep(self) -> int:
        """Delete all that is unused; how many blobs that were. What cannot be done now is done another time."""
        count = 0
        try:
            while found := await self._uploads.unused():
                end_s = self._clock.seconds() + DELETING_MS / 1000 / 4  # a request of S3 may take two minutes more
                for blob in found:
                    if self._clock.seconds() > end_s:
                        return count  # the rest is found again, after its time
                    await self._blobs.delete(blob)
                    count += 1
                await self._uploads.gone(found)
        except Unavailable as error:
            _log.warn("unused blobs are deleted later: {error}", error=error)
        return count


def _failed(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("unused blobs could not be deleted", failure)
