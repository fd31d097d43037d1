"""Making jobs: ids and idempotency keys decide which submissions are new. Blocking, in a database thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Text, select

from msgd.database import Transaction
from msgd.database.bulk import insert, rows_of
from msgd.errors import InvalidInput
from msgd.jobs import rows
from msgd.jobs.interface import Job, State, Submission, Submitted
from msgd.jobs.postings import storable
from msgd.jobs.tables import job_keys, jobs
from msgd.messages.limits import ID_BYTES
from msgd.messages.topics import is_word

KEY_PERIOD_MS: Final = 24 * 3600 * 1000
"""For which an idempotency key stands for its job: longer than any client goes on repeating a request."""


def checked(submission: Submission) -> Submission:
    """The submission, if both databases and a topic can hold it; raises InvalidInput."""
    if submission.id and (not is_word(submission.id) or len(submission.id) > ID_BYTES - len("job.")):
        raise InvalidInput(
            f"{submission.id[:80]!r} cannot be a job id: letters, digits, '_' and '-' only, for the topic job.<id>",
            where="id",
        )
    for name in ("type", "owner", "key", "reply_to", "correlation_id", "traceparent", "parent"):
        value = getattr(submission, name)
        if value and storable(value) != value:
            raise InvalidInput(f"{name} holds a NUL or an unpaired surrogate", where=name)
    return submission


def job_for(submission: Submission, job_id: str, now_ms: int, *, parent_slice: int | None = None) -> Job:
    """The job that a new submission begins."""
    return Job(
        id=job_id,
        type=submission.type,
        params=submission.params,
        state=State.QUEUED,
        run=1,
        slice=0,
        token=0,
        priority=submission.priority,
        owner=submission.owner,
        created_ms=now_ms,
        not_before_ms=submission.not_before_ms,
        parent=submission.parent,
        parent_slice=parent_slice,
        reply_to=submission.reply_to,
        correlation_id=submission.correlation_id,
        traceparent=submission.traceparent,
    )


def submit(
    transaction: Transaction,
    submissions: Sequence[Submission],
    now_ms: int,
    make_id: Callable[[int], str],
    *,
    parent_slice: int | None = None,
) -> list[Submitted]:
    """Insert the jobs of those submissions that are new; the job of each, in order. Their messages are not posted.

    Raises Raced: try again."""
    keyed = _known_keys(transaction, submissions, now_ms)
    known = rows.find(transaction, {one.id for one in submissions if one.id} | set(keyed.values()))
    made: dict[str, Job] = {}
    keys: dict[tuple[str, str], str] = {}
    answers: list[Submitted] = []
    for one in submissions:
        job_id = keyed.get((one.owner, one.key)) or keys.get((one.owner, one.key)) or one.id or make_id(now_ms)
        there = known.get(job_id) or made.get(job_id)
        if there is not None:
            answers.append(Submitted(there, created=False))
            continue
        made[job_id] = job = job_for(one, job_id, now_ms, parent_slice=parent_slice)
        if one.key:
            keys[one.owner, one.key] = job_id
        answers.append(Submitted(job, created=True))
    _insert(transaction, made, {one.id for one in submissions if one.id in made})
    _insert_keys(transaction, keys, now_ms)
    return answers


class Raced(Exception):
    """Another process made the same job or key in this very moment: a repeat finds it."""


def _insert(transaction: Transaction, made: dict[str, Job], given: set[str]) -> None:
    """Insert new jobs, those with ids of their own too. Raises Raced if another process was faster with one of them."""
    rows.insert_jobs(transaction, [job for job_id, job in made.items() if job_id not in given])
    if given:
        values = [rows.values_of(made[job_id]) for job_id in sorted(given)]
        statement = insert(transaction, jobs).on_conflict_do_nothing(index_elements=["id"]).returning(jobs.c.id)
        if len(transaction.execute(statement, values).all()) < len(given):
            raise Raced


def _known_keys(transaction: Transaction, submissions: Sequence[Submission], now_ms: int) -> dict[tuple[str, str], str]:
    """The jobs that keys of these submissions still stand for, by owner and key."""
    wanted = {(one.owner, one.key) for one in submissions if one.key}
    if not wanted:
        return {}
    given = rows_of(transaction, {"owner": Text(), "key": Text()}, sorted(wanted))
    query = select(job_keys.c.owner, job_keys.c.key, job_keys.c.job).where(
        job_keys.c.owner == given.c.owner,
        job_keys.c.key == given.c.key,
        job_keys.c.created_ms > now_ms - KEY_PERIOD_MS,
    )
    return {(owner, key): job for owner, key, job in transaction.execute(query)}


def _insert_keys(transaction: Transaction, keys: dict[tuple[str, str], str], now_ms: int) -> None:
    """Remember new keys, in place of those whose period is over. Raises Raced as :func:`_insert` does."""
    if not keys:
        return
    values: list[dict[str, Any]] = [
        {"owner": owner, "key": key, "job": job, "created_ms": now_ms} for (owner, key), job in sorted(keys.items())
    ]
    statement = insert(transaction, job_keys)
    replacing = statement.on_conflict_do_update(
        index_elements=["owner", "key"],
        set_={"job": statement.excluded.job, "created_ms": statement.excluded.created_ms},
        where=job_keys.c.created_ms <= now_ms - KEY_PERIOD_MS,
    ).returning(job_keys.c.key)
    if len(transaction.execute(replacing, values).all()) < len(values):
        raise Raced
