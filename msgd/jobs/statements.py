"""The statements that every job passes, in each database's fastest form, below SQLAlchemy's expressions.

Each is one text for each database, so that it is prepared once a connection, and takes the ids that it is about as one
parameter: an array on PostgreSQL, in JSON on SQLite. Made from expressions they cost a worker that does nothing else
a tenth of its processor time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from msgd.broker.topology import JOBS
from msgd.database import Transaction
from msgd.database.arrays import array_of_numbers, array_of_texts
from msgd.database.direct import Then, answers, insert_numbered, insert_rows, later, perform_for_each
from msgd.jobs.interface import ENDED, Claim
from msgd.jobs.tables import jobs, outbox
from msgd.jobs.transitions import HELD

_ENDED: Final = ", ".join(f"'{state.value}'" for state in sorted(ENDED))

_HELD: Final = ", ".join(f"'{state.value}'" for state in sorted(HELD))

_GIVEN: Final = "SELECT value FROM json_each(?1)"  # SQLite's form of a list


def columns_text(names: Sequence[str]) -> str:
    """Columns of the table of jobs, for :func:`found` and :func:`locked`."""
    return ", ".join(f"jobs.{jobs.c[name].name}" for name in names)


def found(transaction: Transaction, columns: str, ids: Collection[str]) -> Sequence[Any]:
    """These columns of the jobs with these ids, unlocked."""
    if _is_postgresql(transaction):
        query = f"SELECT {columns} FROM jobs WHERE id = ANY(%s::text[])"  # noqa: S608
        return answers(transaction, (query, (array_of_texts(ids),)))[0]
    query = f"SELECT {columns} FROM jobs WHERE id IN ({_GIVEN})"  # noqa: S608
    return answers(transaction, (query, (_array(ids),)))[0]


def locked(transaction: Transaction, columns: str, ids: Collection[str]) -> Sequence[Any]:
    """These columns of the jobs with these ids and of their parents, all locked in the order of the ids."""
    if _is_postgresql(transaction):
        # One array for the index: to a table of ids, which may be as long as any, the planner joins the whole table.
        parents = "ARRAY(SELECT parent FROM jobs WHERE id = ANY(%s::text[]) AND parent <> '')"
        query = (
            f"SELECT {columns} FROM jobs WHERE id = ANY(%s::text[] || {parents}) "  # noqa: S608
            "ORDER BY id FOR NO KEY UPDATE"
        )
        given = array_of_texts(ids)
        return answers(transaction, (query, (given, given)))[0]
    parents = f"SELECT parent FROM jobs WHERE id IN ({_GIVEN}) AND parent <> ''"  # noqa: S608
    query = f"SELECT {columns} FROM jobs WHERE id IN ({_GIVEN} UNION {parents})"  # noqa: S608
    return answers(transaction, (query, (_array(ids),)))[0]


_CURRENT: Final = f"SELECT 1 FROM jobs WHERE id = ? AND run = ? AND slice = ? AND token = ? AND state IN ({_HELD})"  # noqa: S608


def is_current(transaction: Transaction, claim: Claim) -> bool:
    """Whether the holder of a claim may still go on, as :func:`~msgd.jobs.transitions.is_current` has it; its job is
    locked then. Neither its parent nor its params are looked at: these may be a megabyte, and a part of a newsletter
    asks for each few mails."""
    query = _CURRENT
    if _is_postgresql(transaction):
        query = _CURRENT.replace("?", "%s") + " FOR NO KEY UPDATE"
    return bool(answers(transaction, (query, (claim.job, claim.run, claim.slice, claim.token)))[0])


def delete_calls(transaction: Transaction, of_jobs: Collection[str]) -> None:
    """Delete the job messages of these jobs that are in the outbox."""
    if _is_postgresql(transaction):
        query = f"DELETE FROM outbox WHERE job = ANY(%s::text[]) AND exchange = '{JOBS}'"  # noqa: S608
        later(transaction, query, (array_of_texts(of_jobs),))
    else:
        query = f"DELETE FROM outbox WHERE job IN ({_GIVEN}) AND exchange = '{JOBS}'"  # noqa: S608
        later(transaction, query, (_array(of_jobs),))


def insert_postings(
    transaction: Transaction, postings: Sequence[Sequence[Any]], then: Callable[[Sequence[int]], None]
) -> None:
    """Insert rows into the outbox, each with all its columns but the number; ``then`` is told their numbers, in their
    order, before the transaction ends."""
    if _is_postgresql(transaction):
        insert_numbered(transaction, outbox, postings, then)
        return
    # Asked for beforehand, because INSERT with RETURNING promises no order. Nobody else writes meanwhile, and
    # AUTOINCREMENT counts on from the highest number that was ever given.
    query = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"
    (((last,),),) = answers(transaction, (query, ()))
    numbers = range(last + 1, last + 1 + len(postings))
    insert_rows(transaction, outbox, [(number, *row) for number, row in zip(numbers, postings, strict=True)])
    then(numbers)


def delete_free(transaction: Transaction, numbers: Collection[int]) -> None:
    """Delete these rows of the outbox, but for those that somebody else has locked, who is deleting them too or
    publishes them once more."""
    if _is_postgresql(transaction):
        free = "SELECT id FROM outbox WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE SKIP LOCKED"
        query = f"DELETE FROM outbox WHERE id IN ({free})"  # noqa: S608
        later(transaction, query, (array_of_numbers(numbers),))
    else:
        later(transaction, f"DELETE FROM outbox WHERE id IN ({_GIVEN})", (_array(numbers),))  # noqa: S608


_SETTLE: Final = f"""
    WITH gone AS (DELETE FROM outbox WHERE id = ANY(%s::bigint[])),
    held AS (
        SELECT jobs.id FROM jobs, unnest(%s::text[], %s::bigint[]) AS ends (id, run)
        WHERE jobs.id = ends.id AND jobs.run = ends.run AND jobs.state IN ({_ENDED})
        ORDER BY jobs.id FOR NO KEY UPDATE OF jobs
    ),
    marked AS (UPDATE jobs SET recorded = true FROM held WHERE jobs.id = held.id)
    SELECT id, reply_to, correlation_id FROM jobs WHERE id = ANY(%s::text[]) AND reply_to <> ''
"""  # noqa: S608 - our words


def settle(
    transaction: Transaction,
    numbers: Collection[int],
    ends: Collection[tuple[str, int]],
    concerned: Collection[str],
    then: Then,
) -> None:
    """What the recorder owes to the jobs of a batch: delete these rows of the outbox, mark the ends of these runs as
    recorded, if they are still the present ones of their jobs; ``then`` is told, before the transaction ends, id,
    reply_to and correlation_id of those of the jobs ``concerned`` that somebody waits for."""
    if _is_postgresql(transaction):
        given = (
            array_of_numbers(numbers),
            array_of_texts(job for job, _ in ends),  # locked in the order of the ids, as everybody locks them
            array_of_numbers(run for _, run in ends),
            array_of_texts(concerned),
        )
        later(transaction, _SETTLE, given, then=then)
        return
    if numbers:
        later(transaction, f"DELETE FROM outbox WHERE id IN ({_GIVEN})", (_array(numbers),))  # noqa: S608
    if ends:
        query = f"UPDATE jobs SET recorded = 1 WHERE id = ? AND run = ? AND state IN ({_ENDED})"  # noqa: S608
        perform_for_each(transaction, query, ends)
    query = f"SELECT id, reply_to, correlation_id FROM jobs WHERE id IN ({_GIVEN}) AND reply_to <> ''"  # noqa: S608
    later(transaction, query, (_array(concerned),), then=then)


def _is_postgresql(transaction: Transaction) -> bool:
    return transaction.dialect.name == "postgresql"


def _array(values: Collection[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()
