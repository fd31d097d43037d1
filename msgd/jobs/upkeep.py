"""Keeping jobs alive when workers and brokers are lost, telling the recorder what is settled, forgetting the old."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, Text, and_, delete, exists, or_, select, update

from msgd.broker.topology import JOBS
from msgd.database import Transaction
from msgd.database.bulk import rows_of
from msgd.jobs import rows, transitions
from msgd.jobs.batch import Batch
from msgd.jobs.core import Core
from msgd.jobs.interface import ENDED, Job, Reply, State
from msgd.jobs.submitting import KEY_PERIOD_MS
from msgd.jobs.tables import dead_letters, job_keys, jobs, outbox
from msgd.jobs.transitions import FRESH_MS, Input, Move
from msgd.messages.events import ENDS, Event, Recorded

PAGE: Final = 500
"""Jobs in one transaction of an upkeep that may concern all of them."""

_JOB_TOPIC: Final = "job."


class Upkeep(Core):
    """The part of :class:`~msgd.jobs.interface.Jobs` that keeps jobs alive."""

    async def revive(self) -> int:
        def silent() -> ColumnElement[bool]:
            stale_ms = self._now_ms() - FRESH_MS
            gone = or_(jobs.c.heartbeat_ms <= stale_ms, jobs.c.heartbeat_ms.is_(None))
            return and_(jobs.c.state == State.RUNNING, gone)

        return await self._for_all(silent, transitions.revive)

    async def refill(self) -> int:
        # A row that still waits in the outbox will be published anyway, when it is due.
        posted = exists().where(outbox.c.job == jobs.c.id, outbox.c.exchange == JOBS)

        def lost() -> ColumnElement[bool]:
            return and_(jobs.c.state.in_([State.QUEUED, State.RUNNING]), ~posted)

        return await self._for_all(lost, lambda job, now_ms: transitions.move(job, Input.REPOST, now_ms))

    async def _for_all(
        self, which: Callable[[], ColumnElement[bool]], transition: Callable[[Job, int], Move | None]
    ) -> int:
        """Apply ``transition`` to all unfinished jobs that match, page by page; how many it moved."""
        after, moved = "", 0
        while True:
            query = (
                select(jobs.c.id)
                .where(which(), jobs.c.ended_ms.is_(None), jobs.c.id > after)
                .order_by(jobs.c.id)
                .limit(PAGE)
            )
            page = await self._database.read(partial(_ids, query))
            if page:
                moved += await self._step(page, _moving(page, transition))
            if len(page) < PAGE:
                return moved
            after = page[-1]

    def record(
        self, transaction: Transaction, recorded: Sequence[Recorded], given: Sequence[Event] = ()
    ) -> Sequence[Reply]:
        events = [one.event for one in recorded]
        _delete_outbox(transaction, {event.outbox for event in (*events, *given) if event.outbox is not None})
        of_jobs = [event for event in events if event.topic.startswith(_JOB_TOPIC) and event.run is not None]
        ends = {(event.topic.removeprefix(_JOB_TOPIC), event.run or 0) for event in of_jobs if event.type in ENDS}
        _mark_recorded(transaction, ends)
        return _replies(transaction, {event.topic.removeprefix(_JOB_TOPIC) for event in of_jobs})

    async def purge(self, ended_before_ms: int, *, limit: int = PAGE) -> Sequence[str]:
        def change(transaction: Transaction) -> Sequence[str]:
            # What is not recorded has something in the outbox still to say.
            old = select(jobs.c.id).where(jobs.c.ended_ms < ended_before_ms, jobs.c.recorded).limit(limit)
            if transaction.dialect.name == "postgresql":
                old = old.with_for_update(skip_locked=True)
            gone = sorted(transaction.execute(old).scalars())
            given = rows.given_ids(transaction, gone)
            transaction.execute(delete(jobs).where(jobs.c.id.in_(select(given.c.id))))
            forgotten_ms = self._now_ms() - KEY_PERIOD_MS
            transaction.execute(delete(job_keys).where(job_keys.c.created_ms <= forgotten_ms))
            transaction.execute(delete(dead_letters).where(dead_letters.c.time_ms < ended_before_ms))
            return gone

        return await self._database.write(change)


def _ids(query: Select[Any], transaction: Transaction) -> Sequence[str]:
    return transaction.execute(query).scalars().all()


def _moving(page: Iterable[str], transition: Callable[[Job, int], Move | None]) -> Callable[[Batch], int]:
    def act(batch: Batch) -> int:
        found = (batch.get(job) for job in page)
        return sum(batch.apply(transition(job, batch.now_ms)) is not None for job in found if job is not None)

    return act


def _delete_outbox(transaction: Transaction, numbers: set[int]) -> None:
    if numbers:
        given = rows_of(transaction, {"id": BigInteger()}, [(number,) for number in sorted(numbers)])
        transaction.execute(delete(outbox).where(outbox.c.id.in_(select(given.c.id))))


def _mark_recorded(transaction: Transaction, ends: set[tuple[str, int]]) -> None:
    """Mark these ended runs, if they are still the present ones of their jobs."""
    if not ends:
        return
    given = rows_of(transaction, {"id": Text(), "run": BigInteger()}, sorted(ends))
    if transaction.dialect.name == "postgresql":  # in the order in which everybody locks them
        transaction.execute(
            select(jobs.c.id)
            .where(jobs.c.id.in_(select(given.c.id)))
            .order_by(jobs.c.id)
            .with_for_update(key_share=True)
        )
    transaction.execute(
        update(jobs)
        .where(jobs.c.id == given.c.id, jobs.c.run == given.c.run, jobs.c.state.in_(list(ENDED)))
        .values(recorded=True)
    )


def _replies(transaction: Transaction, of_jobs: set[str]) -> Sequence[Reply]:
    if not of_jobs:
        return []
    given = rows.given_ids(transaction, sorted(of_jobs))
    wanted: Any = transaction.execute(
        select(jobs.c.id, jobs.c.reply_to, jobs.c.correlation_id).where(
            jobs.c.id.in_(select(given.c.id)), jobs.c.reply_to != ""
        )
    )
    return [Reply(*row) for row in wanted]
