"""Jobs and outbox rows to and from their tables. Blocking: all calls here are made in a database thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import FromClause, Select, Text, delete, select, text

from msgd.broker.topology import JOBS
from msgd.database import Transaction
from msgd.database.bulk import rows_of
from msgd.database.direct import insert_rows, update_rows
from msgd.jobs.interface import Job, OutboxRow, Problem, State
from msgd.jobs.postings import Posting, numbered
from msgd.jobs.tables import jobs, outbox
from msgd.messages.envelope import from_bytes, to_bytes

_ERROR: Final = ("error_code", "error_message")
_ALL: Final = tuple(column.name for column in jobs.columns)
_PLAIN: Final = tuple(column.name for column in jobs.columns if column.name not in (*_ERROR, "state"))
_CHANGING: Final = tuple(
    column.name
    for column in jobs.columns
    if column.name
    not in {
        *("id", "type", "created_ms", "priority", "owner", "parent"),
        *("reply_to", "correlation_id", "traceparent", "params", *_ERROR),
    }
)

JOB_COLUMNS: Final = (jobs.c.state, *(jobs.c[name] for name in _ERROR), *(jobs.c[name] for name in _PLAIN))


def job_of(row: Any) -> Job:
    """The job in a row of :data:`JOB_COLUMNS`."""
    state, code, message, *plain = row
    return Job(
        state=State(state),
        error=None if code is None else Problem(code, message or ""),
        **dict(zip(_PLAIN, plain, strict=True)),
    )


def values_of(job: Job) -> dict[str, Any]:
    """All columns of a job."""
    values = {name: getattr(job, name) for name in _PLAIN}
    values["state"] = job.state.value
    values["error_code"], values["error_message"] = _error(job)
    return values


def _columns_of(job: Job) -> tuple[Any, ...]:
    """All columns of a job, in the order of the table."""
    values = values_of(job)
    return tuple([values[name] for name in _ALL])


def _error(job: Job) -> tuple[str | None, str | None]:
    return (None, None) if job.error is None else (job.error.code, job.error.message)


def changed(before: Job, after: Job) -> dict[str, Any]:
    """The columns in which ``after`` differs."""
    values: dict[str, Any] = {}
    for name in _CHANGING:
        value = getattr(after, name)
        if value is not getattr(before, name) and value != getattr(before, name):
            values[name] = value.value if name == "state" else value
    if after.error != before.error:
        values["error_code"], values["error_message"] = _error(after)
    return values


def given_ids(transaction: Transaction, ids: Iterable[str]) -> FromClause:
    """Ids as a table with the column ``id``."""
    return rows_of(transaction, {"id": Text()}, [(one,) for one in ids])


def find(transaction: Transaction, ids: Iterable[str]) -> dict[str, Job]:
    """The jobs with these ids, as they stand, unlocked."""
    given = given_ids(transaction, ids)
    found = transaction.execute(select(*JOB_COLUMNS).where(jobs.c.id.in_(select(given.c.id))))
    return {job.id: job for job in map(job_of, found)}


def locked(transaction: Transaction, ids: Iterable[str]) -> dict[str, Job]:
    """The jobs with these ids and their parents, until the transaction ends nobody else's to change.

    Always locked in the order of the ids, so that two groups never wait for one another.
    """
    given = given_ids(transaction, ids)
    of_given = select(given.c.id)
    parents = select(jobs.c.parent).where(jobs.c.id.in_(of_given), jobs.c.parent != "")
    query: Select[Any] = select(*JOB_COLUMNS).where(jobs.c.id.in_(of_given.union(parents)))
    if transaction.dialect.name == "postgresql":
        query = query.order_by(jobs.c.id).with_for_update(key_share=True)
    return {job.id: job for job in map(job_of, transaction.execute(query))}


def insert_jobs(transaction: Transaction, made: Sequence[Job]) -> None:
    if made:
        insert_rows(transaction, jobs, [_columns_of(job) for job in made])


def update_jobs(transaction: Transaction, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Set columns of locked jobs, by id; jobs in which the same columns change share a statement."""
    alike: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for job in sorted(changes):
        names = tuple(changes[job])
        if names:
            alike.setdefault(names, []).append((job, *changes[job].values()))
    for names, rows in alike.items():
        update_rows(transaction, jobs, names, rows)


# -- outbox ------------------------------------------------------------------------------------------------------------


def outbox_row(row: Any) -> OutboxRow:
    """The outbox row in a row of the whole table; an event's message names its row."""
    message = numbered(from_bytes(row.message), row.exchange, row.id)
    return OutboxRow(
        id=row.id,
        due_ms=row.due_ms,
        job=row.job,
        exchange=row.exchange,
        key=row.key,
        message=message,
        sent=row.sent,
    )


def delete_calls(transaction: Transaction, of_jobs: Iterable[str]) -> None:
    """Take back the job messages of these jobs that are still in the outbox."""
    given = given_ids(transaction, sorted(of_jobs))
    transaction.execute(delete(outbox).where(outbox.c.job.in_(select(given.c.id)), outbox.c.exchange == JOBS))


def _numbers(transaction: Transaction, count: int) -> Sequence[int]:
    """The next numbers of the outbox, ascending. Asked for beforehand, because INSERT with RETURNING promises no order
    (SQLAlchemy falls back to a statement for each row on SQLite)."""
    if transaction.dialect.name == "postgresql":
        taken = text("SELECT nextval(pg_get_serial_sequence('outbox', 'id')) FROM generate_series(1, :count)")
        return sorted(transaction.execute(taken, {"count": count}).scalars())
    # Nobody else writes meanwhile, and AUTOINCREMENT counts on from the highest number that was ever given.
    last = text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'")
    first = transaction.execute(last).scalar_one() + 1
    return range(first, first + count)


def insert_postings(transaction: Transaction, postings: Sequence[tuple[Posting, int]]) -> list[OutboxRow]:
    """Put postings, each with its due time in ms, into the outbox; their rows, numbered in the order given."""
    if not postings:
        return []
    numbers = _numbers(transaction, len(postings))
    insert_rows(
        transaction,
        outbox,
        [
            (number, due_ms, posting.job, posting.exchange, posting.key, 0, to_bytes(posting.message))
            for number, (posting, due_ms) in zip(numbers, postings, strict=True)
        ],
    )
    return [
        OutboxRow(
            id=number,
            due_ms=due_ms,
            job=posting.job,
            exchange=posting.exchange,
            key=posting.key,
            message=numbered(posting.message, posting.exchange, number),
        )
        for number, (posting, due_ms) in zip(numbers, postings, strict=True)
    ]
