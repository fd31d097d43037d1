"""Writes the ledger of a slice: what comes while one step is being committed makes the next step together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred

from msgd.clock import Clock
from msgd.services.mailer.beat import Beat
from msgd.services.mailer.ledger import Begun, Ended, Row
from msgd.services.mailer.steps.store import advance
from msgd.work.interface import Context
from msgd.work.outage import wait_out

GATHER_S: Final = 0.005
"""From the steps of all slices to the next ones: as long as a few transactions take, each of which costs as much as the
rows of twenty mails. What was told comes in larger portions anyway."""


class Pen:
    """The one writer of a slice's rows.

    A step is a checkpoint: it changes the rows if the claim is still current. An outage of the database is waited out:
    what a server has accepted must not be forgotten.
    """

    def __init__(
        self,
        context: Context[Any],
        mailing: int,
        job: str,
        clock: Clock,
        now_ms: Callable[[], int],
        beat: Beat,
        *,
        settled: Callable[[int], None],
    ) -> None:
        """``job``: of the whole mailing; ``settled`` is told after each step of how many rows the end, or that they are
        put back, has been written, or cannot be: see :attr:`error`."""
        self._context = context
        self._mailing = mailing
        self._job = job
        self._claim = f"{context.job.id}/{context.job.token}"
        self._clock = clock
        self._now_ms = now_ms
        self._settled = settled
        self._beat = beat
        self._begin: list[Row] = []
        self._begun: list[Deferred[Begun]] = []
        self._end: list[Ended] = []
        self._back: list[Row] = []
        self._writing = False
        self.paused = False  # the mailing, at the last step
        self.error: Exception | None = None
        """After which nothing is written any more."""

    def begin(self, rows: Sequence[Row]) -> Deferred[Begun]:
        """The rows are *sending*, if the answer has them. Fails with Superseded."""
        begun: Deferred[Begun] = Deferred()
        self._begin += rows
        self._begun.append(begun)
        self._write_on()
        return begun

    def end(self, ended: Sequence[Ended]) -> None:
        """Attempts have ended, and their events are safe."""
        self._end += ended
        self._write_on()

    def put_back(self, rows: Sequence[Row]) -> None:
        """Nothing was handed over: the rows are as they were before their ``begin``."""
        self._back += rows
        self._write_on()

    def _write_on(self) -> None:
        if not self._writing:
            self._writing = True
            self._beat.at_next(self._write_now)

    def _write_now(self) -> None:
        Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        """One step. Raises nothing: all errors go to those who wait."""
        begin, self._begin = self._begin, []
        end, self._end = self._end, []
        back, self._back = self._back, []
        waiting, self._begun = self._begun, []
        try:
            begun = await self._step(begin, end, back)
        except Exception as error:  # told to all who wait, the slice ends with it
            self.error = self.error or error
        else:
            self.paused = begun.paused
        self._writing = False
        if self._begin or self._end or self._back:
            self._write_on()
        self._settled(len(end) + len(back))
        for one in waiting:
            if self.error is not None:
                one.errback(self.error)
            else:
                one.callback(begun)

    async def _step(self, begin: Sequence[Row], end: Sequence[Ended], back: Sequence[Row]) -> Begun:
        if self.error is not None:
            raise self.error
        write = partial(
            advance,
            mailing=self._mailing,
            begin=begin,
            end=end,
            back=back,
            job=self._job,
            claim=self._claim,
            now_ms=self._now_ms(),
        )
        return await wait_out(self._clock, partial(self._context.checkpoint, write, confirmed=True))
