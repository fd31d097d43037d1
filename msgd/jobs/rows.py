"""Jobs and outbox rows to and from their tables. Blocking: all calls here are made in a database thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import FromClause, Text

from msgd.database import Transaction
from msgd.database.bulk import rows_of
from msgd.database.direct import insert_rows, update_rows
from msgd.jobs import statements
from msgd.jobs.interface import Job, OutboxRow, Problem, State
from msgd.jobs.postings import Posting, numbered
from msgd.jobs.tables import jobs
from msgd.messages.envelope import from_bytes, to_bytes

_ERROR: Final = ("error_code", "error_message")
_ALL: Final = tuple(column.name for column in jobs.columns)
_TOLD: Final = ("state", *_ERROR, "cancel_requested", "recorded")  # what is not in a job as it is in the table
_PLAIN: Final = tuple(column.name for column in jobs.columns if column.name not in _TOLD)
_CHANGING: Final = tuple(
    column.name
    for column in jobs.columns
    if column.name
    not in {
        *("id", "type", "created_ms", "priority", "owner", "parent"),
        *("reply_to", "correlation_id", "traceparent", "params", *_ERROR),
    }
)
_row_of: Final = attrgetter(*("error" if name in _ERROR else name for name in _ALL))
_STATE_AT: Final = _ALL.index("state")
_ERROR_AT: Final = slice(_ALL.index(_ERROR[0]), _ALL.index(_ERROR[-1]) + 1)  # the two are neighbours
_plain_of: Final = attrgetter(*_PLAIN)
_changing_of: Final = attrgetter(*_CHANGING)

JOB_COLUMNS: Final = statements.columns_text((*_TOLD, *_PLAIN))


PAGE_BYTES: Final = 4 * 1024 * 1024
"""Of params, saved states and results read at a time: a thousand jobs of 1 MiB must not meet in memory."""


def fitting(sizes: Iterable[tuple[str, int]]) -> list[str]:
    """The ids of the first jobs, as many as :data:`PAGE_BYTES` hold, but one at least."""
    total = 0
    ids: list[str] = []
    for job, size in sizes:
        total += size
        if total > PAGE_BYTES and ids:
            break
        ids.append(job)
    return ids


def job_of(row: Any) -> Job:
    """The job in a row of :data:`JOB_COLUMNS`."""
    state, code, message, cancel_requested, recorded, *plain = row
    return Job(
        state=State(state),
        error=None if code is None else Problem(code, message or ""),
        cancel_requested=bool(cancel_requested),  # SQLite has numbers
        recorded=bool(recorded),
        **dict(zip(_PLAIN, plain, strict=True)),
    )


def values_of(job: Job) -> dict[str, Any]:
    """All columns of a job."""
    values: dict[str, Any] = dict(zip(_PLAIN, _plain_of(job), strict=True))
    values["state"] = job.state.value
    values["cancel_requested"], values["recorded"] = job.cancel_requested, job.recorded
    values["error_code"], values["error_message"] = _error(job)
    return values


def _columns_of(job: Job) -> tuple[Any, ...]:
    """All columns of a job, in the order of the table."""
    values = list(_row_of(job))
    values[_STATE_AT] = job.state.value
    values[_ERROR_AT] = _error(job)
    return tuple(values)


def _error(job: Job) -> tuple[str | None, str | None]:
    return (None, None) if job.error is None else (job.error.code, job.error.message)


def changed(before: Job, after: Job) -> dict[str, Any]:
    """The columns in which ``after`` differs."""
    values: dict[str, Any] = {}
    for name, old, new in zip(_CHANGING, _changing_of(before), _changing_of(after), strict=True):
        if new is not old and new != old:
            values[name] = new.value if name == "state" else new
    if after.error != before.error:
        values["error_code"], values["error_message"] = _error(after)
    return values


def given_ids(transaction: Transaction, ids: Iterable[str]) -> FromClause:
    """Ids as a table with the column ``id``."""
    return rows_of(transaction, {"id": Text()}, [(one,) for one in ids])


def find(transaction: Transaction, ids: Iterable[str]) -> dict[str, Job]:
    """The jobs with these ids, as they stand, unlocked."""
    wanted = list(ids)
    if not wanted:
        return {}
    return {job.id: job for job in map(job_of, statements.found(transaction, JOB_COLUMNS, wanted))}


def locked(transaction: Transaction, ids: Iterable[str]) -> dict[str, Job]:
    """The jobs with these ids and their parents, until the transaction ends nobody else's to change.

    Always locked in the order of the ids, so that two groups never wait for one another.
    """
    return {job.id: job for job in map(job_of, statements.locked(transaction, JOB_COLUMNS, sorted(ids)))}


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


def insert_postings(
    transaction: Transaction,
    postings: Sequence[tuple[Posting, int]],
    then: Callable[[Sequence[OutboxRow]], None],
) -> None:
    """Put postings, each with its due time in ms, into the outbox; ``then`` is told their rows, numbered in the order
    given, before the transaction ends."""
    if not postings:
        return

    def inserted(numbers: Sequence[int]) -> None:
        then(
            [
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
        )

    statements.insert_postings(
        transaction,
        [
            (due_ms, posting.job, posting.exchange, posting.key, 0, to_bytes(posting.message))
            for posting, due_ms in postings
        ],
        inserted,
    )
