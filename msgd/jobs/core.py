"""What all parts of the jobs' SQL share: a database, a clock, a way to tell what was committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeVar

from msgd.clock import Clock, milliseconds
from msgd.database import Database, Transaction
from msgd.jobs.batch import Answer, Batch, Step
from msgd.jobs.interface import OutboxRow, Write
from msgd.jobs.submitting import Raced
from msgd.messages.ids import IdMaker, new_id

T = TypeVar("T")

Forget = Callable[[Transaction, Collection[str]], set[str]]
"""Deletes what a program keeps of jobs that are about to be deleted, a bounded number of rows; of which jobs there may
be more: these stay for the next step."""

Post = Callable[[Sequence[OutboxRow]], None]
"""Told, in the reactor's thread and right after their commit, of rows that this process is to publish at once."""


RACES: Final = 5
"""How often a submission is tried that another process makes at the same moment: the second time it finds it."""


async def raced(attempt: Callable[[], Awaitable[T]]) -> T:
    """``attempt()``, again after Raced."""
    for _ in range(RACES - 1):
        try:
            return await attempt()
        except Raced:
            continue
    return await attempt()


class Core:
    """The base of the parts of :class:`~msgd.jobs.sql.SqlJobs`."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        make_id: IdMaker = new_id,
        post: Post | None = None,
        forget: Sequence[Forget] = (),
    ) -> None:
        """``post``: the publisher of this process, which has a lease on every row written here; without it the rows are
        due at once, for whoever sweeps. ``forget``: asked before jobs are purged."""
        self._database = database
        self._clock = clock
        self._make_id = make_id
        self._post = post
        self._forget = forget
        self._steps = database.group(self._perform)

    def _now_ms(self) -> int:
        return milliseconds(self._clock)

    def _perform(self, transaction: Transaction, steps: Sequence[Step[Any]]) -> Sequence[Answer[Any]]:
        return self._batch(transaction, (job for step in steps for job in step.jobs)).perform(steps)

    def _batch(self, transaction: Transaction, jobs: Iterable[str]) -> Batch:
        return Batch(transaction, self._now_ms(), jobs, leased=self._post is not None)

    async def _step(self, jobs: Iterable[str], act: Callable[[Batch], T]) -> T:
        """Perform ``act`` together with what others ask for just now, and publish what it posts."""
        answer: Answer[T] = await self._steps(Step(tuple(jobs), act))
        return self._published(answer)

    async def _step_alone(self, jobs: Iterable[str], act: Callable[[Batch], T], write: Write[object] | None) -> T:
        """As :meth:`_step`; with a worker's own ``write``, which may fail, in a transaction of its own."""
        if write is None:
            return await self._step(jobs, act)
        step = Step(tuple(jobs), act)

        def change(transaction: Transaction) -> Answer[T]:
            answer: Answer[T] = self._perform(transaction, [step])[0]
            if answer.error is None:
                write(transaction)
            return answer

        return self._published(await self._database.write(change))

    def _published(self, answer: Answer[T]) -> T:
        self._tell(answer.rows)
        return answer.result()

    def _tell(self, rows: Sequence[OutboxRow]) -> None:
        if rows and self._post is not None:
            self._post(rows)
