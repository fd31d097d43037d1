"""Where the work of a process is done: a lane for each type, and all that is being performed at this moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from msgd.broker.interface import Delivery
from msgd.jobs.interface import TypeInfo
from msgd.messages.ids import IdMaker
from msgd.work.attempt import Limits, Means
from msgd.work.interface import Worker
from msgd.work.lane import Lane
from msgd.work.once import Once
from msgd.work.outage import wait_out
from msgd.work.performance import Call, Performance
from msgd.work.solitude import Solitude

_log = Logger()

GRACE_S: Final = 10.0
"""For saving at a stop: a page being fetched may end, and whoever stopped the process still waits for it."""

ABANDON_S: Final = 2.0
"""For a cancelled worker to let go of what it holds, after the grace time."""


class Floor:
    """Begins slices as they are called for, and ends them all at a stop. A :class:`~msgd.work.parts.Part`."""

    def __init__(
        self,
        workers: Sequence[Worker[Any]],
        means: Means,
        *,
        limits: Callable[[str], Limits],
        process: str,
        new_id: IdMaker,
        grace_s: float = GRACE_S,
    ) -> None:
        self._means = means
        self._process = process
        self._grace_s = grace_s
        self._solitude = Solitude()
        self._performing: dict[Performance, None] = {}  # in the order in which they began
        self._holding: dict[tuple[str, int], Performance] = {}
        self._stopping = False
        self._paused: set[str] = set()
        self._awaited = Once()
        self._lanes = {
            worker.type.name: Lane(
                worker,
                limits(worker.type.name),
                means,
                new_id=new_id,
                performer=self,
            )
            for worker in workers
        }

    @property
    def performing(self) -> list[Performance]:
        """All that is being claimed, performed or settled."""
        return list(self._performing)

    # -- start and stop -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Announce the types, and take jobs of those that are not paused."""
        jobs, broker, clock = self._means.jobs, self._means.broker, self._means.clock
        for lane in self._lanes.values():
            info = lane.worker.type.info()
            await wait_out(clock, partial(jobs.announce, info))
            await wait_out(clock, partial(broker.declare_type, info.name))
        await self.heed(list(await wait_out(clock, jobs.types)))

    async def stop(self) -> None:
        """Take nothing more; let every slice save within the grace time; abandon what has not."""
        self._stopping = True
        for lane in self._lanes.values():
            await lane.close()
        self.end_slices()
        if not await self._emptied(self._grace_s):
            late = self.performing
            _log.warn(
                "{count} slices did not save within {grace} s: others will repeat them",
                count=len(late),
                grace=self._grace_s,
            )
            for performance in late:
                performance.abandon()
            if not await self._emptied(ABANDON_S):
                _log.error(
                    "slices do not heed their cancellation: {jobs}", jobs=[one.call.job for one in self.performing]
                )

    async def _emptied(self, within_s: float) -> bool:
        """Whether all that was begun is over, at the latest after so many seconds."""
        if self._performing:
            self._awaited = Once()
            timeout = self._means.clock.callLater(within_s, self._awaited.happen)
            await self._awaited.wait()
            if timeout.active():
                timeout.cancel()
        return not self._performing

    # -- from outside -------------------------------------------------------------------------------------------------

    async def heed(self, types: Sequence[TypeInfo]) -> None:
        """Close the lanes of types that are paused, open the others."""
        for info in types:
            lane = self._lanes.get(info.name)
            if lane is None or self._stopping:
                continue
            await (lane.close() if info.paused else lane.open())
            if info.paused and info.name not in self._paused:
                self._paused.add(info.name)
                _log.info("jobs of type {type} are paused: no more are begun here", type=info.name)
            elif not info.paused and info.name in self._paused:
                self._paused.remove(info.name)
                _log.info("jobs of type {type} go on", type=info.name)

    def cancel(self, job: str) -> None:
        """Stop whatever is performed of this job: its end was requested."""
        for performance in self.performing:
            if performance.call.job == job:
                performance.cancel()

    def end_slices(self) -> None:
        """Ask all that are being performed to save soon."""
        for performance in self.performing:
            performance.end_slice()

    # -- performing ---------------------------------------------------------------------------------------------------

    @property
    def held_up(self) -> bool:
        """Whether a slice is, or wants to be, alone."""
        return self._solitude.wanted

    def join(self, call: Call, delivery: Delivery) -> bool:
        """Whether just this slice is being performed already; then the delivery was joined to it."""
        present = self._holding.get((call.job, call.slice))
        if present is None or not present.holds:
            return False
        present.take_over(delivery)
        return True

    def perform(self, call: Call, delivery: Delivery) -> Deferred[None]:
        """Begin; fires when it is over, and never fails."""
        performance = Performance(
            call,
            delivery,
            self._means,
            process=self._process,
            solitude=self._solitude,
            make_way=self.end_slices,
        )
        self._performing[performance] = None
        self._holding[call.job, call.slice] = performance
        over = performance.begin()
        over.addCallback(self._over, performance)
        return over

    def _over(self, _: None, performance: Performance) -> None:
        del self._performing[performance]
        key = (performance.call.job, performance.call.slice)
        if self._holding.get(key) is performance:
            del self._holding[key]
        if self._stopping:
            if not self._performing:
                self._awaited.happen()
        elif performance.alone:
            for lane in self._lanes.values():
                lane.fill()  # they were held up
