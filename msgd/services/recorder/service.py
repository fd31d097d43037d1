"""The recorder as a part of a daemon: waits for the lease, serves while it has it, hands it back."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.errors import LeaseLost, Unavailable
from msgd.jobs.interface import Jobs
from msgd.journal.interface import Journal, Lease, Retention
from msgd.messages.ids import IdMaker, new_id
from msgd.services.recorder.bell import Bell
from msgd.services.recorder.figures import Figures
from msgd.services.recorder.graves import Graves
from msgd.services.recorder.lease import Keeper
from msgd.services.recorder.mark import Mark
from msgd.services.recorder.recording import Recording
from msgd.services.recorder.rounds import Rounds

_log = Logger()

STANDBY_S: Final = 1.0
"""How often one that stands by asks for the lease."""

GRACE_S: Final = 5.0
"""How long a stop waits for the batches in hand; a process has 10 s in all. What is not finished goes back."""


class Recorder:
    """One of any number of recorders, of which one at a time serves. A :class:`~msgd.work.parts.Part`."""

    def __init__(
        self,
        *,
        journal: Journal,
        jobs: Jobs,
        broker: Broker,
        clock: Clock,
        process: str,
        rules: Sequence[Retention] = (),
        new_id: IdMaker = new_id,
    ) -> None:
        """``process`` names this process in the lease, unlike any other; ``rules``: what is kept of which topics;
        ``clock`` counts seconds since 1970."""
        self.figures = Figures()
        self._journal = journal
        self._jobs = jobs
        self._broker = broker
        self._clock = clock
        self._rules = rules
        self._new_id = new_id
        self._keeper = Keeper(journal, clock, process)
        self._mark = Mark(broker, jobs, journal, clock)
        self._bell = Bell(clock)
        self._stopping = False
        self._life: Deferred[None] | None = None
        self._recording: Recording | None = None
        self._running: Deferred[None] | None = None

    async def start(self) -> None:
        self._broker.observe(self._mark)
        self._life = Deferred.fromCoroutine(self._live())

    async def stop(self) -> None:
        """Finish the batches in hand, give back the rest, release the lease."""
        self._stopping = True
        self._bell.ring()
        life, self._life = self._life, None
        if life is None:
            return
        if self._recording is not None:
            self._recording.end()
        late = self._clock.callLater(GRACE_S, self._give_up)
        try:
            await life
        finally:
            if late.active():
                late.cancel()

    def _give_up(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def lag_s(self) -> float:
        """For how long the oldest event in hand has waited to be stored, in seconds."""
        return self.figures.lag_s(self._clock.seconds())

    async def _live(self) -> None:
        while not self._stopping:
            lease = await self._acquire()
            if lease is None:
                await self._bell.wait(STANDBY_S)
            elif not self._stopping:
                await self._serve(lease)
            if lease is not None:
                await self._release(lease)

    async def _acquire(self) -> Lease | None:
        try:
            return await self._keeper.acquire()
        except Unavailable as error:
            _log.warn("the lease cannot be asked for: {error}", error=error)
        except Exception:  # the recorder stays: it stands by, and asks again
            _log.failure("the lease cannot be asked for")
        return None

    async def _release(self, lease: Lease) -> None:
        try:
            await self._journal.release(lease)
        except Unavailable as error:
            _log.warn("the lease cannot be released, and will expire: {error}", error=error)

    async def _keep(self, lease: Lease, running: Deferred[None]) -> None:
        """Keep the lease, and end the recording that runs under it when it is lost, or in danger."""
        try:
            await self._keeper.keep(lease)
        except LeaseLost as error:
            _log.warn("{error}", error=error)
        finally:
            running.cancel()

    async def _serve(self, lease: Lease) -> None:
        """Record, and do all that is done by one recorder only, until the lease is lost or the end is wanted."""
        _log.info("recording begins, under lease {number}", number=lease.number)
        recording = Recording(
            lease,
            journal=self._journal,
            jobs=self._jobs,
            broker=self._broker,
            clock=self._clock,
            new_id=self._new_id,
            figures=self.figures,
        )
        running = Deferred.fromCoroutine(recording.run())
        duties = [
            _duty("keeping the lease", self._keep(lease, running)),
            _duty("reading dead letters", Graves(self._broker, self._jobs, self._clock).watch()),
            _duty("looking for the mark", self._mark.watch()),
            _duty("the rounds", Rounds(self._journal, self._jobs, self._clock, self._rules).watch()),
        ]
        self.figures.takeovers += 1
        self.figures.serving = True
        self._recording, self._running = recording, running
        if self._stopping:
            recording.end()
        try:
            await running
        except (LeaseLost, CancelledError) as error:
            _log.warn("recording is cut short: {error!r}", error=error)
        except Exception:  # the lease is given back, and taken anew, here or by whoever stands by
            _log.failure("recording failed")
        self._recording = self._running = None
        self.figures.serving = False
        for duty in duties:
            duty.cancel()
            await duty
        await recording.close()
        _log.info("recording has ended, under lease {number}", number=lease.number)


def _duty(what: str, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
    """Owns a coroutine that is to go on until it is cancelled; its end is logged, and never an error."""

    def ended(failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("{what} has ended", failure, what=what)

    return Deferred.fromCoroutine(work).addErrback(ended)
