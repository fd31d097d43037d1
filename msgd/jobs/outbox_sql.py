"""The outbox in SQL, as its publisher sees it. Conforms to :class:`~msgd.jobs.interface.OutboxStore`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Row, func, select, update

from msgd.clock import Clock, milliseconds
from msgd.database import Database, Transaction
from msgd.database.bulk import rows_of
from msgd.jobs import statements
from msgd.jobs.interface import OutboxRow
from msgd.jobs.rows import given_ids, outbox_row
from msgd.jobs.tables import outbox

_COLUMNS: Final = (
    outbox.c.id,
    outbox.c.due_ms,
    outbox.c.job,
    outbox.c.exchange,
    outbox.c.key,
    outbox.c.message,
    outbox.c.sent,
)


TAKEN_BYTES: Final = 16 * 1024 * 1024
"""Of messages taken at a time: 500 may have 1 MiB each, and are held as rows, as messages and as frames."""


class SqlOutbox:
    """The outbox rows of a database."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def _now_ms(self) -> int:
        return milliseconds(self._clock)

    async def take(self, *, lease_ms: int, limit: int) -> Sequence[OutboxRow]:
        return await self._database.write(lambda transaction: _take(transaction, self._now_ms(), lease_ms, limit))

    async def next_due_ms(self) -> int | None:
        query = select(func.min(outbox.c.due_ms))
        return await self._database.read(lambda transaction: transaction.execute(query).scalar_one())

    async def published(self, rows: Sequence[OutboxRow], *, again_ms: int) -> None:
        await self._database.write(lambda transaction: _published(transaction, rows, again_ms))

    async def pending(self) -> int:
        query = select(func.count()).select_from(outbox)
        return await self._database.read(lambda transaction: transaction.execute(query).scalar_one())


def _take(transaction: Transaction, now_ms: int, lease_ms: int, limit: int) -> Sequence[OutboxRow]:
    # The longest due first: rows that fail again and again, each time due later, do not keep others waiting.
    due = select(outbox.c.id, func.length(outbox.c.message)).where(outbox.c.due_ms <= now_ms)
    due = due.order_by(outbox.c.due_ms, outbox.c.id).limit(limit)
    if transaction.dialect.name == "postgresql":
        due = due.with_for_update(skip_locked=True)
    fitting = rows_of(transaction, {"id": BigInteger()}, [(number,) for number in _fitting(transaction.execute(due))])
    whole = select(*_COLUMNS).where(outbox.c.id.in_(select(fitting.c.id))).order_by(outbox.c.id)
    found = [outbox_row(row) for row in transaction.execute(whole)]
    blocked = _blocked(transaction, found, now_ms + lease_ms)
    moved = [(row.id, blocked.get(row.id, now_ms + lease_ms)) for row in found]
    if moved:
        given = rows_of(transaction, {"id": BigInteger(), "due_ms": BigInteger()}, moved)
        transaction.execute(update(outbox).where(outbox.c.id == given.c.id).values(due_ms=given.c.due_ms))
    return [row for row in found if row.id not in blocked]


def _fitting(sizes: Iterable[Row[int, int]]) -> list[int]:
    """The numbers of the first rows, as many as :data:`TAKEN_BYTES` hold, but one at least."""
    total = 0
    fitting: list[int] = []
    for number, size in sizes:
        total += size
        if total > TAKEN_BYTES and fitting:
            break
        fitting.append(number)
    return fitting


def _blocked(transaction: Transaction, found: Sequence[OutboxRow], leased_ms: int) -> dict[int, int]:
    """Which of the rows found have to wait for an earlier one of their job that was never confirmed and is not among
    them (somebody else is publishing it), and until when."""
    jobs = sorted({row.job for row in found if row.job})
    if not jobs:
        return {}
    given = given_ids(transaction, jobs)
    taken = {row.id for row in found}
    first: dict[str, tuple[int, int]] = {}  # by job: the first row in somebody else's hands, and when it is due
    unsent = select(outbox.c.job, outbox.c.id, outbox.c.due_ms).where(
        outbox.c.job.in_(select(given.c.id)), outbox.c.sent == 0
    )
    for job, number, due_ms in sorted(transaction.execute(unsent)):
        if number not in taken:
            first.setdefault(job, (number, due_ms))
    return {
        row.id: min(first[row.job][1], leased_ms) for row in found if row.job in first and row.id > first[row.job][0]
    }


def _published(transaction: Transaction, rows: Sequence[OutboxRow], again_ms: int) -> None:
    gone = sorted(row.id for row in rows if not row.is_event)
    again = sorted(row.id for row in rows if row.is_event)
    if gone:
        statements.delete_free(transaction, gone)
    if again:
        transaction.execute(
            update(outbox)
            .where(outbox.c.id.in_(_free(transaction, again)))
            .values(due_ms=again_ms, sent=outbox.c.sent + 1)
        )


def _free(transaction: Transaction, numbers: Sequence[int]) -> Any:
    """Those of the rows that nobody else has locked: who has is deleting them, or publishes them once more."""
    given = rows_of(transaction, {"id": BigInteger()}, [(number,) for number in numbers])
    query = select(given.c.id)
    if transaction.dialect.name == "postgresql":
        locked = select(outbox.c.id).where(outbox.c.id.in_(query)).order_by(outbox.c.id)
        return locked.with_for_update(skip_locked=True)
    return query
