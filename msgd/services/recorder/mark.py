"""Notices a broker that has lost everything, and has the jobs posted again (DESIGN §3, "Heartbeat").

The sign is a durable empty queue named after the journal's epoch. It is missing in a broker that is new, that was
emptied, or that is not the one this journal has worked with. Only the recorder that holds the lease looks: many that
look at once would post every job many times.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.jobs.interface import Jobs
from msgd.journal.interface import Journal
from msgd.services.recorder.bell import Bell
from msgd.work.outage import wait_out

_log = Logger()

LOOK_S: Final = 60.0
"""How often it looks without being told to: a queue can also be deleted by hand."""


class Mark:
    """Looks for the sign at every connect. An Observer of the broker."""

    def __init__(self, broker: Broker, jobs: Jobs, journal: Journal, clock: Clock) -> None:
        self._broker = broker
        self._jobs = jobs
        self._journal = journal
        self._clock = clock
        self._bell = Bell(clock)

    def connected(self) -> None:
        self._bell.ring()

    def disconnected(self, reason: str) -> None: ...

    def blocked(self, reason: str) -> None: ...

    def unblocked(self) -> None: ...

    async def watch(self) -> None:
        """Does not return. Cancel it to stop."""
        while True:
            await wait_out(self._clock, self.check)
            await self._bell.wait(LOOK_S)

    async def check(self) -> bool:
        """Whether the sign is there. If not, all jobs that are not ended are posted again, then it is set: in this
        order, so that a crash between the two repeats the posting, which does no harm. Raises Unavailable."""
        epoch = (await self._journal.head()).epoch
        if await self._broker.has_mark(epoch):
            return True
        posted = await self._jobs.refill()
        _log.info("the broker knows nothing of this journal: {posted} jobs were posted again", posted=posted)
        await self._broker.set_mark(epoch)
        return False
