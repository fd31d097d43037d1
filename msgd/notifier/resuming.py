"""Where readers go on, asked of the journal for many at once: a herd that comes back is a few questions, not thousands.

What was deleted after some place in a topic was also deleted after every earlier place. So the question for the
earliest of many readers is put first: those of whose topics it finds nothing gone need no question of their own.

Only questions that begin after a reader has asked count for it. What they tell of deleted events is passed on, so that
memory does not show what the journal has deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct, structs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from msgd.journal.interface import Gap, GapReason, HeadState, Journal
from msgd.messages.cursors import Cursor
from msgd.messages.topics import is_pattern
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

TOPICS: Final = 500
"""Topics in one question."""


class Place(Struct, frozen=True):
    """Where a reader goes on: read after ``after``, having been told of ``gaps``."""

    epoch: str
    after: int
    gaps: Sequence[Gap]


class _Asker:
    """One reader that waits for its answer."""

    __slots__ = ("answer", "patterns", "since", "topics")

    def __init__(self, patterns: tuple[str, ...], since: Cursor | None) -> None:
        self.patterns = patterns
        self.since = since
        wild = any(map(is_pattern, patterns))
        self.topics = frozenset() if wild else frozenset(patterns)  # empty: of all
        self.answer: Deferred[Place] = Deferred()

    @property
    def pos(self) -> int:
        return 0 if self.since is None else self.since.pos

    def concerns(self, gap: Gap) -> bool:
        return not self.topics or gap.topic in self.topics


class Resuming:
    """Asks on behalf of all readers of this process."""

    def __init__(self, journal: Journal, clock: Any, *, gone: Callable[[str, int], None]) -> None:
        """``gone``: is told of topics, and the first seq that is kept of each."""
        self._journal = journal
        self._clock = clock
        self._gone = gone
        self._waiting: list[_Asker] = []
        self._is_asking = False
        self._tasks = Tasks("asking where readers go on")

    def stop(self) -> None:
        """Who waits is cancelled. Stopping twice is harmless."""
        self._tasks.cancel()

    async def ask(self, patterns: tuple[str, ...], since: Cursor | None) -> Place:
        """Where a reader with this cursor goes on (None: at the first kept). Waits out an outage of the database."""
        asker = _Asker(patterns, since)
        self._waiting.append(asker)
        if not self._is_asking:
            self._tasks.begin(self._rounds())
        return await asker.answer

    # -- rounds -------------------------------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        """One after the other: who asks during a round is in the next one."""
        self._is_asking = True
        try:
            while self._waiting:
                askers, self._waiting = self._waiting, []
                try:
                    await self._round(askers)
                except Exception:  # it is those who asked who are told; a cancellation is raised again
                    failure = Failure()
                    for asker in askers:
                        if not asker.answer.called:
                            asker.answer.errback(failure)
                    if failure.check(CancelledError):
                        raise
        finally:
            self._is_asking = False

    async def _round(self, askers: Sequence[_Asker]) -> None:
        head = await wait_out(self._clock, self._journal.head)
        alike: dict[tuple[str, ...], list[_Asker]] = {}
        plain: list[_Asker] = []
        lost: dict[tuple[tuple[str, ...], bool], list[_Asker]] = {}
        for asker in askers:
            if asker.since is not None and (asker.since.epoch != head.epoch or asker.pos > head.pos):
                lost.setdefault((asker.patterns, asker.since.epoch == head.epoch), []).append(asker)
            elif asker.topics:
                plain.append(asker)
            elif asker.since is None:
                _tell(asker, Place(head.epoch, 0, ()))
            else:
                alike.setdefault(asker.patterns, []).append(asker)
        for some in [*_by_topics(plain), *alike.values()]:
            await self._settle(sorted(some, key=_pos), head)
        for some in lost.values():
            await self._begin_anew(some)

    async def _settle(self, askers: Sequence[_Asker], head: HeadState) -> None:
        """Answer these, of whom the first is the furthest back; all cursors are of the journal's present life."""
        if not askers:
            return
        first = askers[0]
        patterns = first.patterns if not first.topics else tuple({topic for one in askers for topic in one.topics})
        since = Cursor(head.epoch, first.pos)
        resume = await wait_out(self._clock, lambda: self._journal.resume(patterns, since))
        if resume.after != since.pos:
            # Another life has begun since we looked: these cursors are not of it.
            await self._each(askers)
            return
        for gap in resume.gaps:
            if gap.reason in (GapReason.TRIMMED, GapReason.ERASED) and gap.first is not None:
                self._gone(gap.topic, gap.first)
        rest: list[_Asker] = []
        for asker in askers:
            gaps = tuple(gap for gap in resume.gaps if asker.concerns(gap))
            if asker.since is None:
                _tell(asker, Place(head.epoch, 0, ()))
            elif not gaps or asker.pos == first.pos:
                _tell(asker, Place(head.epoch, asker.pos, gaps))
            else:
                rest.append(asker)
        middle = (len(rest) + 1) // 2
        await self._settle(rest[:middle], head)
        await self._settle(rest[middle:], head)

    async def _begin_anew(self, askers: Sequence[_Asker]) -> None:
        """Answer these, who all read the same, and whose cursors are of another life or ahead of this one: they differ
        in what they asked for only."""
        first = await self._alone(askers[0])
        if first.after:
            await self._each(askers)  # it is of this life after all
            return
        for asker in askers:
            gaps = tuple(structs.replace(gap, requested=str(asker.since)) for gap in first.gaps)
            _tell(asker, structs.replace(first, gaps=gaps))

    async def _each(self, askers: Sequence[_Asker]) -> None:
        for asker in askers:
            _tell(asker, await self._alone(asker))

    async def _alone(self, asker: _Asker) -> Place:
        """The answer of the journal itself."""
        resume = await wait_out(self._clock, lambda: self._journal.resume(asker.patterns, asker.since))
        head = await wait_out(self._clock, self._journal.head)
        return Place(head.epoch, resume.after, resume.gaps)


def _pos(asker: _Asker) -> int:
    return asker.pos


def _by_topics(askers: Sequence[_Asker]) -> list[list[_Asker]]:
    """In groups of not too many topics."""
    groups: list[list[_Asker]] = []
    topics: set[str] = set()
    for asker in askers:
        if not groups or len(topics | asker.topics) > TOPICS:
            groups.append([])
            topics = set()
        groups[-1].append(asker)
        topics |= asker.topics
    return groups


def _tell(asker: _Asker, place: Place) -> None:
    if not asker.answer.called:  # else it has been cancelled
        asker.answer.callback(place)
