"""Pages of history for readers: from memory where that is whole, else one read of the journal for all who ask alike."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from msgd.journal.interface import Journal
from msgd.messages.live import live_event
from msgd.messages.topics import is_pattern
from msgd.notifier.items import Item
from msgd.notifier.limits import PAGE_READS
from msgd.notifier.line import Line
from msgd.notifier.recent import Recent
from msgd.notifier.ring import Reading, cut
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

AHEAD: Final = 4
"""Of a topic so many times more is read from the journal than one reader takes at once: the next pages are there."""

_Asked = tuple[str, tuple[str, ...]]


class _Read:
    """One read under way, and who waits for it."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.stale = False  # events have been deleted since it began
        self.waiting: list[Deferred[Reading]] = []


class History:
    """What readers page through."""

    def __init__(self, journal: Journal, line: Line, recent: Recent, clock: Any) -> None:
        self._journal = journal
        self._line = line
        self._recent = recent
        self._clock = clock
        self._slots = DeferredSemaphore(PAGE_READS)
        self._reads: dict[_Asked, list[_Read]] = {}
        self._tasks = Tasks("reading history")

    def stop(self) -> None:
        """Who waits is cancelled. Stopping twice is harmless."""
        self._tasks.cancel()

    def renew(self) -> None:
        """The journal lives another life, or has gone back: what is under way belongs to the one before."""
        for asked in list(self._reads):
            self._disown(asked)
        self._recent.clear()

    def gone(self, topic: str, first: int | None = None) -> None:
        """Events of ``topic`` have been deleted: all (None), or those before seq ``first``. Who begins to read from now
        on is not shown them."""
        for asked in list(self._reads):
            self._disown(asked)
        if first is None:
            self._recent.drop(topic)
        else:
            self._recent.gone(topic, first)

    def _disown(self, asked: _Asked) -> None:
        """What is under way serves those who wait for it, and nobody else."""
        for read in self._reads.pop(asked):
            read.stale = True

    async def page(self, epoch: str, patterns: tuple[str, ...], *, after: int, limit: int) -> Reading:
        """What comes after ``after``, about ``limit`` events at most. Waits out an outage of the database."""
        topic = patterns[0] if len(patterns) == 1 and not is_pattern(patterns[0]) else None
        asked = (epoch, patterns)
        while True:
            found = self._find(epoch, topic, after, limit)
            if found is not None:
                return found
            reads = self._reads.setdefault(asked, [])
            # One that begins before us may well come to us.
            read = max((one for one in reads if one.after <= after), key=_after, default=None)
            if read is None:
                read = _Read(after)
                reads.append(read)
                self._tasks.begin(self._read(asked, read, topic, limit if topic is None else AHEAD * limit))
            waiting: Deferred[Reading] = Deferred(read.waiting.remove)
            read.waiting.append(waiting)
            page = await waiting
            if read.after == after and len(page.items) <= limit:
                return page
            if after < page.upto or read.after == after:
                return self._find(epoch, topic, after, limit) or cut(
                    page.items, after=after, limit=limit, upto=page.upto, more=page.more
                )

    def _find(self, epoch: str, topic: str | None, after: int, limit: int) -> Reading | None:
        return None if topic is None or epoch != self._line.epoch else self._recent.find(topic, after, limit)

    async def _read(self, asked: _Asked, read: _Read, topic: str | None, limit: int) -> None:
        """Read a page, and give it to all who wait for it."""
        (epoch, patterns), reads = asked, self._reads[asked]
        result: Reading | Failure
        try:
            page = await self._slots.run(
                lambda: Deferred.fromCoroutine(
                    wait_out(self._clock, lambda: self._journal.read(patterns, after=read.after, limit=limit))
                )
            )
            items = [Item(epoch, live_event(one.event, one.seq, one.pos)) for one in page.events]
            result = cut(items, after=read.after, limit=limit, upto=page.upto, more=page.more)
            if topic is not None and epoch == self._line.epoch and not read.stale:
                self._recent.read(topic, read.after, items, page.upto, more=page.more)
        except Exception:  # it is those who wait who are told; a cancellation is raised again below
            result = Failure()
        reads.remove(read)
        if not reads and self._reads.get(asked) is reads:
            del self._reads[asked]
        while read.waiting:  # who is told may have others stop waiting
            read.waiting.pop(0).callback(result)
        if isinstance(result, Failure) and result.check(CancelledError):
            raise CancelledError


def _after(read: _Read) -> int:
    return read.after
