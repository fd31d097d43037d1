"""What a daemon is made of: parts that start in order and stop in reverse, each stop awaited.

Twisted's ``MultiService`` starts all services at once and awaits none of them, so a worker could still be saving
while its database closes.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from msgd.work.once import Once

_log = Logger()


class Part(Protocol):
    """Something that runs from its start to its stop."""

    async def start(self) -> None:
        """Returns when others may rely on it. Called once. May be cancelled."""

    async def stop(self) -> None:
        """Returns when nothing of it runs any more. Harmless if its start was never called, failed or was cancelled,
        and if it was stopped before."""


class _Phase(enum.Enum):
    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Parts:
    """An ordered set of parts, itself a :class:`Part`. Each relies on those before it."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._phase = _Phase.NEW
        self._begun: list[Part] = []
        self._starting: Deferred[None] | None = None
        self._stopped = Once()

    async def start(self) -> None:
        """Start all parts, one after the other.

        If one fails, those that were begun are stopped (it included), then its error is raised; so it is with
        CancelledError if :meth:`stop` is called meanwhile, or was called before: what is stopped stays stopped.
        """
        if self._phase is not _Phase.NEW:
            if self._phase in (_Phase.STOPPING, _Phase.STOPPED):
                raise CancelledError
            raise AssertionError("started twice")
        self._phase = _Phase.STARTING
        try:
            for part in self._parts:
                self._begun.append(part)
                self._starting = Deferred.fromCoroutine(part.start())
                await self._starting
                if self._phase is not _Phase.STARTING:
                    raise CancelledError  # stop came, and the start of this part did not heed its cancellation
        except Exception:  # whatever it is: what was begun is stopped before it is told
            await self._wound_down()
            raise
        self._phase = _Phase.RUNNING

    async def stop(self) -> None:
        """Stop what was begun, the last first. A start under way is cancelled. An error is logged, and the others are
        stopped all the same. Every caller returns when the last part has stopped."""
        if self._phase in (_Phase.NEW, _Phase.RUNNING):
            await self._wound_down()
        elif self._phase is _Phase.STARTING:
            self._phase = _Phase.STOPPING
            if self._starting is not None:
                self._starting.cancel()
            await self._stopped.wait()
        else:
            await self._stopped.wait()

    def _wound_down(self) -> Deferred[None]:
        """Fires when all has stopped. Cancelling it ends the waiting, not the stops: they go to their end."""
        self._phase = _Phase.STOPPING
        Deferred.fromCoroutine(self._wind_down())
        return self._stopped.wait()

    async def _wind_down(self) -> None:
        while self._begun:
            part = self._begun.pop()
            try:
                await part.stop()
            except Exception:  # the parts below still want to be stopped
                _log.failure("{part} did not stop as it should", part=part)
        self._phase = _Phase.STOPPED
        self._stopped.happen()
