"""A step of the ledger: the statements that every mail passes, in each database's fastest form.

Each is one text for each database, prepared once a connection. On SQLite an UPDATE that joins its rows to a list goes
through all rows of the mailing for each of the list (10,000 recipients: 200 ms a step), so there the list is what is
looked in, or is made into a table first (MATERIALIZED).

On SQLite no statement is performed for each row, or returns them, but of those that are suppressed: the interpreter's
lock is given up and taken again for each, also by those who wait for it, which took longer than the statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from msgd.database import Transaction
from msgd.database.arrays import array_of, array_of_numbers, array_of_texts
from msgd.database.direct import later
from msgd.services.mailer.ledger import Begun, Ended, Row
from msgd.services.mailer.suppressions.store import suppress

_UNTOUCHED: Final = "state IN ('queued', 'deferred')"

_WANTS_NONE: Final = "EXISTS (SELECT 1 FROM mail_suppressions AS gone WHERE gone.key = mail_recipients.key)"

_QUEUED_OR_DEFERRED: Final = "CASE WHEN next_ms IS NULL THEN 'queued' ELSE 'deferred' END"

_PAUSED: Final = {
    "postgresql": "SELECT paused FROM mailings WHERE id = %s",
    "sqlite": "SELECT paused FROM mailings WHERE id = ?",
}

_SUPPRESSED: Final = {
    "postgresql": """
        SELECT "row", reason FROM mail_recipients JOIN mail_suppressions USING (key)
        WHERE mailing = %s AND "row" = ANY(%s::bigint[])""",
    "sqlite": """
        SELECT "row", reason FROM mail_recipients CROSS JOIN mail_suppressions USING (key)
        WHERE mailing = ?1 AND "row" IN (SELECT value FROM json_each(?2))""",
}

# What was begun already is ours, if a step is made again whose answer was lost.
_BEGIN_POSTGRESQL: Final = f"""
    UPDATE mail_recipients SET state = 'sending', attempt = tried.attempt + 1, claim = %s,
        first_ms = coalesce(first_ms, %s), changed_ms = %s
    FROM unnest(%s::bigint[], %s::int[]) AS tried (at, attempt)
    WHERE mailing = %s AND "row" = ANY(%s::bigint[]) AND "row" = tried.at AND (
        ({_UNTOUCHED} AND mail_recipients.attempt = tried.attempt)
        OR (state = 'sending' AND mail_recipients.attempt = tried.attempt + 1 AND claim = %s))
        AND NOT {_WANTS_NONE}
    RETURNING "row"
"""  # noqa: S608 - our words

_BEGIN_SQLITE: Final = f"""
    UPDATE mail_recipients SET state = 'sending', attempt = ?1 + 1, claim = ?2,
        first_ms = coalesce(first_ms, ?3), changed_ms = ?3
    WHERE mailing = ?4 AND "row" IN (SELECT value FROM json_each(?5)) AND (
        ({_UNTOUCHED} AND attempt = ?1) OR (state = 'sending' AND attempt = ?1 + 1 AND claim = ?2))
        AND NOT {_WANTS_NONE}
"""  # noqa: S608

_BEGUN_SQLITE: Final = """
    SELECT json_group_array("row") FROM mail_recipients
    WHERE mailing = ?1 AND "row" IN (SELECT value FROM json_each(?2)) AND state = 'sending' AND claim = ?3
"""

_END_POSTGRESQL: Final = """
    UPDATE mail_recipients SET state = ended.state, attempt = ended.attempt, code = ended.code, reply = ended.reply,
        next_ms = ended.next_ms, changed_ms = %s
    FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::int[], %s::text[], %s::bigint[])
        AS ended (at, state, attempt, code, reply, next_ms)
    WHERE mailing = %s AND "row" = ANY(%s::bigint[]) AND "row" = ended.at
"""

_END_SQLITE: Final = """
    WITH ended AS MATERIALIZED (
        SELECT json_extract(value, '$[0]') AS at, json_extract(value, '$[1]') AS state,
            json_extract(value, '$[2]') AS attempt, json_extract(value, '$[3]') AS code,
            json_extract(value, '$[4]') AS reply, json_extract(value, '$[5]') AS next_ms
        FROM json_each(?1)
    )
    UPDATE mail_recipients SET state = ended.state, attempt = ended.attempt, code = ended.code, reply = ended.reply,
        next_ms = ended.next_ms, changed_ms = ?2
    FROM ended WHERE mailing = ?3 AND "row" = ended.at
"""

_BACK_POSTGRESQL: Final = f"""
    UPDATE mail_recipients SET state = {_QUEUED_OR_DEFERRED}, attempt = tried.attempt, changed_ms = %s
    FROM unnest(%s::bigint[], %s::int[]) AS tried (at, attempt)
    WHERE mailing = %s AND "row" = ANY(%s::bigint[]) AND "row" = tried.at
"""  # noqa: S608

_BACK_SQLITE: Final = f"""
    UPDATE mail_recipients SET state = {_QUEUED_OR_DEFERRED}, attempt = ?1, changed_ms = ?2
    WHERE mailing = ?3 AND "row" IN (SELECT value FROM json_each(?4))
"""  # noqa: S608


def advance(
    transaction: Transaction,
    mailing: int,
    *,
    begin: Sequence[Row],
    end: Sequence[Ended],
    back: Sequence[Row],
    job: str,
    claim: str,
    now_ms: int,
) -> Begun:
    """One step of the ledger: what has ended, what goes back to the queue, and what is *sending* from now on.

    ``claim``: a word for the claim under which it is made, by which a step is known again whose answer was lost. The
    answer is complete when the transaction has ended. Of two jobs that both would send a row, one gets it.
    """
    begun = Begun()
    if end:
        _end(transaction, mailing, end, job, now_ms)
    if back:
        _back(transaction, mailing, back, now_ms)
    if begin:
        _begin(transaction, mailing, begin, claim, now_ms, begun)

    def tell_paused(rows: Sequence[Sequence[object]]) -> None:
        begun.paused = any(paused for (paused,) in rows)

    later(transaction, _PAUSED[transaction.dialect.name], (mailing,), then=tell_paused)
    return begun


def _begin(transaction: Transaction, mailing: int, rows: Sequence[Row], claim: str, now_ms: int, begun: Begun) -> None:
    at = [row.row for row in rows]
    if transaction.dialect.name == "postgresql":
        numbers = array_of_numbers(at)
        # An address that is suppressed between the two is in neither answer, and queued as before.
        later(transaction, _SUPPRESSED["postgresql"], (mailing, numbers), then=begun.suppressed.update)
        tried = array_of_numbers(row.attempt for row in rows)
        values = (claim, now_ms, now_ms, numbers, tried, mailing, numbers, claim)
        later(transaction, _BEGIN_POSTGRESQL, values, then=lambda found: begun.rows.update(row for (row,) in found))
        return
    later(transaction, _SUPPRESSED["sqlite"], (mailing, _json(at)), then=begun.suppressed.update)
    for attempt, some in _by_attempt(rows):
        later(transaction, _BEGIN_SQLITE, (attempt, claim, now_ms, mailing, _json(some)))

    def tell_begun(found: Sequence[Sequence[str]]) -> None:
        begun.rows.update(msgspec.json.decode(found[0][0], type=list[int]))

    later(transaction, _BEGUN_SQLITE, (mailing, _json(at), claim), then=tell_begun)


def _back(transaction: Transaction, mailing: int, rows: Sequence[Row], now_ms: int) -> None:
    """Nothing was handed over: as if it had not been tried. The attempts are set, not counted down: a step whose answer
    was lost is made again."""
    if transaction.dialect.name == "postgresql":
        numbers = array_of_numbers(row.row for row in rows)
        tried = array_of_numbers(row.attempt for row in rows)
        later(transaction, _BACK_POSTGRESQL, (now_ms, numbers, tried, mailing, numbers))
    else:
        for attempt, some in _by_attempt(rows):
            later(transaction, _BACK_SQLITE, (attempt, now_ms, mailing, _json(some)))


def _end(transaction: Transaction, mailing: int, ended: Sequence[Ended], job: str, now_ms: int) -> None:
    if transaction.dialect.name == "postgresql":
        numbers = array_of_numbers(one.row for one in ended)
        values = (
            now_ms,
            numbers,
            array_of_texts(one.state.value for one in ended),
            array_of_numbers(one.attempt for one in ended),
            array_of(one.code for one in ended),
            array_of_texts(one.reply for one in ended),
            array_of(one.next_ms for one in ended),
            mailing,
            numbers,
        )
        later(transaction, _END_POSTGRESQL, values)
    else:
        rows = [(one.row, one.state.value, one.attempt, one.code, one.reply, one.next_ms) for one in ended]
        later(transaction, _END_SQLITE, (_json(rows), now_ms, mailing))
    for one in ended:
        if one.suppress is not None:
            key, email = one.suppress
            suppress(transaction, key, email, "bounced", f"{one.code} {one.reply}", job, now_ms)


def _by_attempt(rows: Sequence[Row]) -> Iterable[tuple[int, Sequence[int]]]:
    """The numbers of the rows that were tried so often."""
    found: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        found[row.attempt].append(row.row)
    return found.items()


def _json(values: Sequence[Any]) -> str:
    return msgspec.json.encode(values).decode()
