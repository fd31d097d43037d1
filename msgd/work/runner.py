"""The workers of a process and all they need around them, as one part."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgd.broker.interface import Broker
from msgd.clock import Clock, milliseconds
from msgd.jobs.interface import Jobs
from msgd.messages.ids import IdMaker, new_id
from msgd.work.attempt import Limits, Means
from msgd.work.cancel import CancelSignals
from msgd.work.floor import GRACE_S, Floor
from msgd.work.heartbeat import Heartbeat
from msgd.work.interface import Worker
from msgd.work.parts import Parts


class Runner(Parts):
    """Performs jobs with the given workers, from start to stop. A :class:`~msgd.work.parts.Part`.

    The order of its parts is that of their needs: a stop first drains the floor, whose slices are still cancellable
    and give signs of life until the last has saved; then the workers end.
    """

    def __init__(
        self,
        workers: Sequence[Worker[Any]],
        *,
        jobs: Jobs,
        broker: Broker,
        clock: Clock,
        process: str,
        limits: Callable[[str], Limits] = lambda _: Limits(),
        new_id: IdMaker = new_id,
        jitter: Callable[[], float] = random.random,
        grace_s: float = GRACE_S,
    ) -> None:
        """``process`` names this process in claims, unlike any other; ``limits`` gives those of a job type."""
        means = Means(jobs, broker, clock, partial(milliseconds, clock), jitter)
        floor = Floor(workers, means, limits=limits, process=process, new_id=new_id, grace_s=grace_s)
        heartbeat = Heartbeat(jobs, clock, lambda: list(floor.performing), floor.heed)
        super().__init__([*workers, heartbeat, CancelSignals(broker, floor.cancel), floor])
