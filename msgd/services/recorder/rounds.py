"""What the recorder does every few seconds or minutes: revive jobs, trim the journal, purge old jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from msgd.clock import Clock, milliseconds, sleep
from msgd.errors import Unavailable
from msgd.jobs.interface import Jobs
from msgd.journal.interface import Journal, Retention
from msgd.messages.topics import covers, job_topic

_log = Logger()

REVIVE_S: Final = 2.0
"""How soon after the ten seconds of its heartbeat a dead worker's job is noticed."""

TRIM_S: Final = 60.0
"""Retention is a matter of days; but a topic that keeps 100 events should not grow to millions meanwhile."""

TRIMMED: Final = 1000
"""Events in one transaction of a trim: some 20 ms, in which no batch is stored."""

PURGED: Final = 100
"""Jobs in one step of a purge; each has a topic to erase."""

_JOBS: Final = "job.*"


def job_age_ms(rules: Sequence[Retention]) -> int | None:
    """For how long jobs are kept after their end: as long as their events. None: for ever."""
    rule = next((rule for rule in rules if covers(rule.pattern, _JOBS)), None)
    return None if rule is None else rule.max_age_ms


class Rounds:
    """Goes its rounds for as long as it is let. What cannot be done now is done on the next one."""

    def __init__(self, journal: Journal, jobs: Jobs, clock: Clock, rules: Sequence[Retention]) -> None:
        self._journal = journal
        self._jobs = jobs
        self._clock = clock
        self._rules = rules

    async def watch(self) -> None:
        """Does not return. Cancel it to stop."""
        trim_s = self._clock.seconds()
        while True:
            await self._do("reviving jobs", self._jobs.revive)
            if self._clock.seconds() >= trim_s:
                await self._do("trimming the journal", self.trim)
                await self._do("purging jobs", self.purge)
                trim_s = self._clock.seconds() + TRIM_S
            await sleep(self._clock, REVIVE_S)

    async def _do(self, what: str, round_: Callable[[], Awaitable[object]]) -> None:
        try:
            await round_()
        except CancelledError:
            raise
        except Unavailable as error:
            _log.warn("{what} has to wait: {error}", what=what, error=error)
        except Exception:  # the other rounds are made, and this one again next time
            _log.failure("{what} failed", what=what)

    async def trim(self) -> int:
        """Delete what the rules let go; how many events."""
        trimmed = gone = await self._journal.trim(self._rules, limit=TRIMMED)
        while gone >= TRIMMED:
            gone = await self._journal.trim(self._rules, limit=TRIMMED)
            trimmed += gone
        return trimmed

    async def purge(self) -> int:
        """Delete the jobs that ended long ago, with their topics; how many."""
        age_ms = job_age_ms(self._rules)
        if age_ms is None:
            return 0
        before_ms = milliseconds(self._clock) - age_ms
        purged = 0
        while True:
            jobs = await self._jobs.purge(before_ms, limit=PURGED)
            for job in jobs:
                await self._journal.erase(job_topic(job))
            purged += len(jobs)
            if len(jobs) < PURGED:
                return purged
