"""The ledger in the database: functions over an open transaction, called through ``Context.checkpoint`` by the slices,
and through ``Database`` by the routes and the reader of bounces."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import case, delete, func, select, update

from msgd.database import Database, Transaction
from msgd.database.arrays import array_of_numbers, array_of_texts
from msgd.database.bulk import insert
from msgd.database.direct import answers, later, perform_for_each
from msgd.messages import json
from msgd.services.mailer.ledger import OPEN, MailingRow, NewRow, Remaining, Row, RowState, Shown
from msgd.services.mailer.tables import mail_keys, mail_recipients, mailings

__all__ = ["Database", "Transaction"]

_R: Final = mail_recipients.c
_MAILING: Final = (mailings.c.id, mailings.c.rows, mailings.c.complete, mailings.c.paused, mailings.c.started_ms)
_ROW: Final = tuple(_R[name] for name in Row.__struct_fields__)
_SHOWN: Final = tuple(_R[name] for name in Shown.__struct_fields__)


# -- mailings --------------------------------------------------------------------------------------------------------


def open_mailing(transaction: Transaction, job: str, now_ms: int) -> MailingRow:
    """The mailing of a job, begun if it is new."""
    found = find_mailing(transaction, job)
    if found is None:
        values = {"job": job, "rows": 0, "complete": False, "paused": False, "started_ms": now_ms}
        transaction.execute(insert(transaction, mailings).values(**values).on_conflict_do_nothing())
        found = find_mailing(transaction, job)
        assert found is not None
    return found


def find_mailing(transaction: Transaction, job: str) -> MailingRow | None:
    """The mailing of a job, if it has begun."""
    row = transaction.execute(select(*_MAILING).where(mailings.c.job == job)).one_or_none()
    return None if row is None else MailingRow(*row)


def job_of(transaction: Transaction, mailing: int) -> str | None:
    """The job of a mailing, if it is still there."""
    found: str | None = transaction.execute(select(mailings.c.job).where(mailings.c.id == mailing)).scalar_one_or_none()
    return found


def is_paused(transaction: Transaction, jobs: Collection[str]) -> bool:
    """Whether the mailing of one of these jobs is paused, all its recipients being there."""
    query = select(mailings.c.id).where(mailings.c.job.in_(jobs), mailings.c.paused, mailings.c.complete).limit(1)
    return transaction.execute(query).first() is not None


def set_paused(transaction: Transaction, job: str, paused: bool, now_ms: int) -> None:
    """Hold a mailing, or let it go on."""
    mailing = open_mailing(transaction, job, now_ms)
    transaction.execute(update(mailings).where(mailings.c.id == mailing.id).values(paused=paused))


# What thousands of recipients pass is one text for each database, as in ``steps``.
_LOAD_POSTGRESQL: Final = """
    INSERT INTO mail_recipients (mailing, changed_ms, state, attempt, "row", email, key, name, vars, reply)
    SELECT %s, %s, 'queued', 0, *
    FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
    ON CONFLICT DO NOTHING
"""
_LOAD_SQLITE: Final = """
    INSERT INTO mail_recipients (mailing, changed_ms, state, attempt, "row", email, key, name, vars, reply)
    VALUES (?, ?, 'queued', 0, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""


def _values(new: NewRow) -> tuple[Any, ...]:
    """Number, address, key, name, variables and reply."""
    key = new.key or f"!{new.row}"  # what is no address is compared with nothing
    return (new.row, new.email, key, new.name, json.encode(new.vars).decode(), new.reply)


def load(
    transaction: Transaction, mailing: int, given: Sequence[NewRow], *, read: int, complete: bool, now_ms: int
) -> None:
    """Put recipients into the ledger; an address that is there already stays as it is. ``read``: rows read so far."""
    if given:
        rows = [_values(one) for one in given]
        if transaction.dialect.name == "postgresql":
            numbers, *texts = zip(*rows, strict=True)
            arrays = [array_of_numbers(numbers), *map(array_of_texts, texts)]
            later(transaction, _LOAD_POSTGRESQL, (mailing, now_ms, *arrays))
        else:
            perform_for_each(transaction, _LOAD_SQLITE, [(mailing, now_ms, *row) for row in rows])
    transaction.execute(update(mailings).where(mailings.c.id == mailing).values(rows=read, complete=complete))


FORGOTTEN: Final = 2000
"""Rows that one step of a purge deletes: some 20 ms, in which nobody else writes on SQLite."""


def forget(transaction: Transaction, jobs: Collection[str]) -> set[str]:
    """Delete recipients of these jobs, some at a time; of which jobs there may be more."""
    left = FORGOTTEN
    found = transaction.execute(select(mailings.c.id, mailings.c.job).where(mailings.c.job.in_(jobs))).all()
    for number, (mailing, _) in enumerate(found):
        of_mailing = _R.mailing == mailing
        last = select(_R.row).where(of_mailing).order_by(_R.row).offset(left - 1).limit(1)
        upto = transaction.execute(last).scalar_one_or_none()
        if upto is not None:
            transaction.execute(delete(mail_recipients).where(of_mailing, _R.row <= upto))
            return {job for _, job in found[number:]}
        left -= transaction.execute(delete(mail_recipients).where(of_mailing)).rowcount
    return set()


# -- a slice ---------------------------------------------------------------------------------------------------------


def left_behind(transaction: Transaction, mailing: int, first: int, last: int) -> Sequence[Row]:
    """The rows in which somebody died: *sending*, and nobody is at it."""
    return _rows(transaction, mailing, first, last, RowState.SENDING, limit=last - first + 1)


def opening(transaction: Transaction, mailing: int, first: int, last: int) -> tuple[Mapping[str, int], Sequence[Row]]:
    """What a slice finds: how many of its rows are in each state, and those that were left behind."""
    return counts(transaction, mailing, first, last), left_behind(transaction, mailing, first, last)


def closing(
    transaction: Transaction, mailing: int, first: int, last: int, now_ms: int
) -> tuple[Remaining, Mapping[str, int]]:
    """What it leaves: what is left to do, and how many rows are in each state."""
    return remaining(transaction, mailing, first, last, now_ms), counts(transaction, mailing, first, last)


def due(
    transaction: Transaction,
    mailing: int,
    first: int,
    last: int,
    *,
    after: int,
    after_deferred: int = 0,
    now_ms: int,
    limit: int,
) -> Sequence[Row]:
    """The next rows to mail to: queued ones behind row ``after``, then, behind ``after_deferred``, deferred ones whose
    time has come."""
    fresh = _rows(transaction, mailing, max(first, after + 1), last, RowState.QUEUED, limit=limit)
    if len(fresh) == limit:
        return fresh
    place = max(first, after_deferred + 1)
    due = _asked(transaction, _DUE, (mailing, place, last, RowState.DEFERRED.value, now_ms, limit - len(fresh)))
    return [*fresh, *due]


_IN_STATE: Final = f"""
    SELECT {", ".join(f'"{column.name}"' for column in _ROW)} FROM mail_recipients
    WHERE mailing = ? AND "row" BETWEEN ? AND ? AND state = ?"""  # noqa: S608 - our words
_NEXT: Final = f'{_IN_STATE} ORDER BY "row" LIMIT ?'
_DUE: Final = f'{_IN_STATE} AND next_ms <= ? ORDER BY "row" LIMIT ?'


def _rows(
    transaction: Transaction, mailing: int, first: int, last: int, state: RowState, *, limit: int
) -> Sequence[Row]:
    return _asked(transaction, _NEXT, (mailing, first, last, state.value, limit))


def _asked(transaction: Transaction, query: str, values: Sequence[Any]) -> Sequence[Row]:
    if transaction.dialect.name == "postgresql":
        return [_row(found) for found in answers(transaction, (query.replace("?", "%s"), values))[0]]
    # In one value: the interpreter's lock is given up and taken again for each row that SQLite returns.
    (((found,),),) = answers(transaction, (f"SELECT json_group_array({_JSON_ROW}) FROM ({query})", values))  # noqa: S608
    return _decode_rows(found)


_JSON_ROW: Final = "json_array({})".format(
    ", ".join("json(vars)" if column.name == "vars" else f'"{column.name}"' for column in _ROW)
)
_decode_rows: Final = msgspec.json.Decoder(list[Row]).decode


def _row(values: Sequence[Any]) -> Row:
    row, email, key, name, given, state, attempt, reply, first_ms = values
    return Row(
        row=row,
        email=email,
        key=key,
        name=name,
        vars=json.decode(given.encode(), dict[str, object]),
        state=state,
        attempt=attempt,
        reply=reply,
        first_ms=first_ms,
    )


def remaining(transaction: Transaction, mailing: int, first: int, last: int, now_ms: int) -> Remaining:
    """What is left to do of these rows."""
    waits = _R.state == RowState.DEFERRED.value
    later = case((waits & (_R.next_ms > now_ms), 1), else_=0)
    query = select(func.count(), func.sum(later), func.min(case((waits, _R.next_ms)))).where(
        _R.mailing == mailing, _R.row.between(first, last), _R.state.in_([state.value for state in OPEN])
    )
    count, deferred, next_ms = transaction.execute(query).one()
    return Remaining(count - (deferred or 0), deferred or 0, next_ms)


def counts(transaction: Transaction, mailing: int, first: int = 0, last: int = 1 << 62) -> Mapping[str, int]:
    """How many of these rows are in each state."""
    query = select(_R.state, func.count()).where(_R.mailing == mailing, _R.row.between(first, last))
    return {row[0]: row[1] for row in transaction.execute(query.group_by(_R.state))}


def stretches(transaction: Transaction, mailing: int, size: int) -> Sequence[tuple[int, int]]:
    """The open rows as stretches (first, last) of at most ``size`` open rows each."""
    query = select(_R.row).where(_R.mailing == mailing, _R.state.in_([state.value for state in OPEN])).order_by(_R.row)
    rows = list(transaction.execute(query).scalars())
    return [(rows[at], rows[min(at + size, len(rows)) - 1]) for at in range(0, len(rows), size)]


# -- the key of signatures -----------------------------------------------------------------------------------------


def signing_key(transaction: Transaction, made: bytes) -> bytes:
    """The key with which addresses are signed; ``made`` becomes it if there is none yet."""
    statement = insert(transaction, mail_keys).values(id=1, key=made).on_conflict_do_nothing()
    transaction.execute(statement)
    return bytes(transaction.execute(select(mail_keys.c.key).where(mail_keys.c.id == 1)).scalar_one())


# -- looking ---------------------------------------------------------------------------------------------------------


def recipients(
    transaction: Transaction, mailing: int, *, states: Collection[str], after: int, limit: int
) -> Sequence[Shown]:
    """The next rows of the ledger, in order; of ``states``, or all."""
    query = select(*_SHOWN).where(_R.mailing == mailing, _R.row > after)
    if states:
        query = query.where(_R.state.in_(list(states)))
    return [Shown(**row._mapping) for row in transaction.execute(query.order_by(_R.row).limit(limit))]


def find_row(transaction: Transaction, mailing: int, row: int) -> Row | None:
    """One row."""
    found = transaction.execute(select(*_ROW).where(_R.mailing == mailing, _R.row == row)).one_or_none()
    return None if found is None else _row(found)


def bounced_late(transaction: Transaction, mailing: int, row: int, code: int | None, reply: str, now_ms: int) -> bool:
    """A notice has come of a mail that was sent, or may have been; False if nothing changes by it."""
    states = [RowState.SENT.value, RowState.UNKNOWN.value]
    statement = update(mail_recipients).where(_R.mailing == mailing, _R.row == row, _R.state.in_(states))
    values = {"state": RowState.BOUNCED.value, "code": code, "reply": reply, "changed_ms": now_ms}
    return transaction.execute(statement.values(**values).returning(_R.row)).first() is not None
