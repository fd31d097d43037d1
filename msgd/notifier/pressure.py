"""Backpressure at the door: while the recorder is far behind, nothing more is let in that it would have to record.

How far behind it is, the broker tells: by what waits in the queues of events. Where events of jobs pile up no more jobs
are taken, and where all others do, no more events; so a flood of crawl results does not silence a chat.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from msgd.broker.interface import Broker
from msgd.broker.topology import JOB_EVENTS_QUEUE, TALK_QUEUE
from msgd.errors import Overloaded, Unavailable

_log = Logger()

LOOK_S: Final = 2.0
"""Between two looks at the queues: they grow by some ten thousand meanwhile, at most."""

AGAIN_S: Final = 10.0
"""After which a refused caller may come again: a recorder that works has recorded some fifty thousand by then."""


class Pressure:
    """Looks at the queues, and refuses while too much waits there."""

    def __init__(self, broker: Broker, backlog: int, clock: Any) -> None:
        """``backlog``: events that may wait in each queue; 0: however many."""
        self._broker = broker
        self._backlog = backlog
        self._waiting: dict[str, int] = {}
        self._looking = LoopingCall(lambda: Deferred.fromCoroutine(self._look()))
        self._looking.clock = clock

    def start(self) -> None:
        """Begin to look."""
        if self._backlog:
            self._looking.start(LOOK_S).addErrback(
                lambda failure: _log.failure("nobody looks at the recorder's backlog any more", failure)
            )

    def stop(self) -> None:
        """Look no more. Stopping twice, or before the start, is harmless."""
        if self._looking.running:
            self._looking.stop()

    def check_jobs(self) -> None:
        """Raises Overloaded while too many events of jobs wait to be recorded."""
        self._check(JOB_EVENTS_QUEUE, "jobs")

    def check_events(self) -> None:
        """Raises Overloaded while too many other events do."""
        self._check(TALK_QUEUE, "events")

    def _check(self, queue: str, what: str) -> None:
        waiting = self._waiting.get(queue, 0)
        if waiting > self._backlog:
            raise Overloaded(
                f"{waiting} events wait to be recorded, more than the {self._backlog} of [limits] backlog: "
                f"no more {what} are taken until that is better; is a recorder running?",
                retry_after=AGAIN_S,
            )

    async def _look(self) -> None:
        try:
            self._waiting = await self._broker.depths([JOB_EVENTS_QUEUE, TALK_QUEUE])
        except Unavailable:
            self._waiting = {}  # without a broker other checks decide
