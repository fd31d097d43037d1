"""Keeping jobs alive when workers and brokers are lost, telling the recorder what is settled, forgetting the old."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select

from msgd.broker.topology import JOBS
from msgd.clock import sleep
from msgd.database import Transaction
from msgd.jobs import rows, statements, transitions
from msgd.jobs.batch import Batch
from msgd.jobs.core import Core
from msgd.jobs.interface import Job, OutboxRow, Reply, State
from msgd.jobs.submitting import KEY_PERIOD_MS
from msgd.jobs.tables import dead_letters, job_keys, jobs, outbox
from msgd.jobs.transitions import FRESH_MS, LIVE, Input, Move
from msgd.messages.events import ENDS, Event, Recorded

PAGE: Final = 500
"""Jobs in one transaction of an upkeep that may concern all of them."""

REST: Final = 1.0
"""How many times as long as a page of params took nothing is read then, so that others have a database's thread and the
processor: a look at the params of all jobs is in no hurry."""

_JOB_TOPIC: Final = "job."

_WORD: Final = re.compile(rb"[\w-]+")


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
        numbers = {event.outbox for event in (*events, *given) if event.outbox is not None}
        of_jobs = [event for event in events if event.topic.startswith(_JOB_TOPIC) and event.run is not None]
        ends = {(event.topic.removeprefix(_JOB_TOPIC), event.run or 0) for event in of_jobs if event.type in ENDS}
        concerned = {event.topic.removeprefix(_JOB_TOPIC) for event in of_jobs}
        if not (numbers or concerned):
            return []
        wanted: list[Reply] = []
        statements.settle(
            transaction,
            sorted(numbers),
            sorted(ends),
            sorted(concerned),
            then=lambda found: wanted.extend(Reply(*row) for row in found),
        )
        return wanted

    async def recorded(self, rows: Sequence[OutboxRow]) -> bool:
        left = select(outbox.c.id).where(outbox.c.id.in_([row.id for row in rows])).limit(1)
        return not await self._database.read(partial(_ids, left))

    async def mentioned(self, words: Collection[str]) -> set[str]:
        wanted, after = {word.encode("ascii") for word in words}, ""
        found: set[bytes] = set()
        while found < wanted:
            begun_s = self._clock.seconds()
            new, after = await self._database.read(partial(_words, wanted - found, after))
            found |= new
            if not after:
                break
            rest_s = REST * (self._clock.seconds() - begun_s)
            if rest_s > 0:
                await sleep(self._clock, rest_s)
        return {word.decode("ascii") for word in found}

    async def purge(self, ended_before_ms: int, *, limit: int = PAGE) -> Sequence[str]:
        def change(transaction: Transaction) -> tuple[list[str], bool]:
            # What is not recorded has something in the outbox still to say.
            old = select(jobs.c.id).where(jobs.c.ended_ms < ended_before_ms, jobs.c.recorded).limit(limit)
            if transaction.dialect.name == "postgresql":
                old = old.with_for_update(skip_locked=True)
            found = set(transaction.execute(old).scalars())
            left: set[str] = set().union(*(forget(transaction, found) for forget in self._forget))
            gone = sorted(found - left)
            given = rows.given_ids(transaction, gone)
            transaction.execute(delete(jobs).where(jobs.c.id.in_(select(given.c.id))))
            forgotten_ms = self._now_ms() - KEY_PERIOD_MS
            transaction.execute(delete(job_keys).where(job_keys.c.created_ms <= forgotten_ms))
            transaction.execute(delete(dead_letters).where(dead_letters.c.time_ms < ended_before_ms))
            return gone, bool(left)

        while True:
            gone, more = await self._database.write(change)
            if gone or not more:
                return gone


def _params_after(transaction: Transaction, after: str) -> tuple[Sequence[bytes], str]:
    """The params of the next jobs that have not ended, in the order of their ids, and the last id; "" at the end.

    By the id alone, whatever their states are: one that changes between two pages is not passed over."""
    found: list[tuple[str, int]] = []
    for state in LIVE:
        query = select(jobs.c.id, func.length(jobs.c.params))
        query = query.where(jobs.c.ended_ms.is_(None), jobs.c.state == state, jobs.c.id > after)
        found.extend((id_, size) for id_, size in transaction.execute(query.order_by(jobs.c.id).limit(PAGE)))
    found.sort()
    ids = rows.fitting(found[:PAGE])
    if not ids:
        return [], ""
    return transaction.execute(select(jobs.c.params).where(jobs.c.id.in_(ids))).scalars().all(), ids[-1]


def _words(wanted: set[bytes], after: str, transaction: Transaction) -> tuple[set[bytes], str]:
    """Those of the words that stand in the next params, and the id of the last job; "" at the end."""
    params, last = _params_after(transaction, after)
    return set().union(*(wanted.intersection(_WORD.findall(one)) for one in params)), last


def _ids(query: Select[Any], transaction: Transaction) -> Sequence[str]:
    return transaction.execute(query).scalars().all()


def _moving(page: Iterable[str], transition: Callable[[Job, int], Move | None]) -> Callable[[Batch], int]:
    def act(batch: Batch) -> int:
        found = (batch.get(job) for job in page)
        return sum(batch.apply(transition(job, batch.now_ms)) is not None for job in found if job is not None)

    return act
