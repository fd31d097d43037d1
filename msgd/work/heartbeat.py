"""The signs of life of all slices that a process performs, in one call every two seconds, and the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from msgd.clock import Clock
from msgd.errors import Unavailable
from msgd.jobs.interface import Beat, BeatAnswer, Jobs, TypeInfo

_log = Logger()

INTERVAL_S: Final = 2.0
"""Five fit into the ten seconds after which a job counts as dead, so four may be lost."""


class Alive(Protocol):
    """Something whose sign of life is due."""

    @property
    def beat(self) -> Beat | None:
        """None: not yet, or no more."""

    def cancel(self) -> None: ...

    def lose(self) -> None: ...


class Heartbeat:
    """Beats for all that is alive and passes the answers on. A :class:`~msgd.work.parts.Part`.

    While the database is away nothing is stopped: whether a claim is still current is checked with every change of
    state, so a worker that goes on in vain does no harm, and one that goes on with good reason loses nothing.
    """

    def __init__(
        self,
        jobs: Jobs,
        clock: Clock,
        alive: Callable[[], list[Alive]],
        types: Callable[[list[TypeInfo]], Awaitable[None]],
    ) -> None:
        """``types`` is told with every beat what the job types are, and which of them are paused."""
        self._jobs = jobs
        self._alive = alive
        self._types = types
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._tick()))
        self._loop.clock = clock  # type: ignore[assignment]  # a Clock is an IReactorTime
        self._ended: Deferred[LoopingCall] | None = None
        self._away = False

    async def start(self) -> None:
        self._ended = self._loop.start(INTERVAL_S, now=False)

    async def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        ended, self._ended = self._ended, None
        if ended is not None:
            await ended

    async def _tick(self) -> None:
        """Raises nothing: the next one must come."""
        try:
            await self._beat()
            await self._types(list(await self._jobs.types()))
        except Unavailable as error:
            if not self._away:
                _log.warn("no sign of life could be given, the work goes on: {error}", error=error)
            self._away = True
        except Exception:  # a beat left out is made up for by the next; a loop that ends kills every job
            _log.failure("the heartbeat stumbled")
        else:
            self._away = False

    async def _beat(self) -> None:
        pairs = [(one, beat) for one in self._alive() if (beat := one.beat) is not None]
        if not pairs:
            return
        answers = await self._jobs.beat([beat for _, beat in pairs])
        for (one, _), answer in zip(pairs, answers, strict=True):
            if answer is BeatAnswer.CANCEL:
                one.cancel()
            elif answer is BeatAnswer.SUPERSEDED:
                one.lose()
