"""Pages of history by cursor, forwards and backwards, of one topic, many, or all.

First the positions are found, then their rows are fetched, so that no more is read than a page holds. How positions
are found depends on what is asked (measured with 100,000 topics and 5 million events):

* everything: along the primary key;
* up to :data:`MERGED` topics: the index on (topic, pos), each topic's next few, merged;
* more topics than that, or a reader near the head: a window of the journal, filtered. A page may then be short and
  yet have ``more``: its ``upto`` says how far it came.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Select, func, select, true

from msgd.database import Transaction
from msgd.database.bulk import rows_of
from msgd.journal import tables
from msgd.journal.interface import Page, TopicInfo
from msgd.journal.selection import Selection, selection
from msgd.messages.events import Event, Recorded

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Data in one page: a thousand events of 1 MiB must not meet in memory."""

MERGED: Final = 256
"""Topics whose indexes are merged; beyond that walking the journal itself is no slower."""

WINDOW: Final = 20_000
"""Positions looked at for one page: some 20 ms, so that a rare topic does not hold a database thread for seconds."""

TOPICS_LOOKED_AT: Final = 5_000
"""Topics read at a time while a pattern without a prefix looks for its own."""

_events: Final = tables.events
_topics: Final = tables.topics


class _Found(Struct, frozen=True):
    """Positions in the order of reading, and where the search ended if it did not come to its end."""

    positions: Sequence[int]
    stopped_at: int | None = None  # all of what matches up to here is in positions


# -- forwards ---------------------------------------------------------------------------------------------------------


def read(transaction: Transaction, patterns: Sequence[str], after: int, limit: int, upto: int | None) -> Page:
    """See :meth:`Journal.read`."""
    wanted = selection(patterns)
    head: int = transaction.execute(select(tables.head.c.pos)).scalar_one()
    end = head if upto is None else min(upto, head)
    if limit < 1 or after >= end:
        return Page((), after, False)
    found = _forwards(transaction, wanted, after, end, limit + 1)
    positions = found.positions[:limit]
    rows = _fetch(transaction, positions)
    if len(rows) < len(found.positions):
        return Page(rows, rows[-1].pos, True)
    if found.stopped_at is not None:
        return Page(rows, found.stopped_at, True)
    return Page(rows, end, False)


def _forwards(transaction: Transaction, wanted: Selection, after: int, end: int, limit: int) -> _Found:
    between = (_events.c.pos > after) & (_events.c.pos <= end)
    if wanted.everything:
        statement = select(_events.c.pos).where(between).order_by(_events.c.pos).limit(limit)
        return _Found(transaction.scalars(statement).all())
    if wanted.patterns and end - after <= WINDOW:
        return _window(transaction, wanted, after, end, limit)
    topics = _few_topics(transaction, wanted, _topics.c.last_pos > after)
    if topics is not None:
        return _Found(_merge(transaction, topics, after, end, limit))
    first = transaction.scalar(select(func.min(_events.c.pos)).where(between))
    if first is None:
        return _Found(())
    stop = min(end, first + WINDOW - 1)
    found = _window(transaction, wanted, first - 1, stop, limit)
    if len(found.positions) >= limit or stop == end:
        return found
    return _Found(found.positions, stop)


def _window(transaction: Transaction, wanted: Selection, after: int, end: int, limit: int) -> _Found:
    """Up to ``limit`` positions that match, between two positions that are not far apart."""
    statement = _with_topics(wanted).where(_events.c.pos > after, _events.c.pos <= end).order_by(_events.c.pos)
    return _Found(list(islice(_matching(transaction, wanted, statement), limit)))


def _matching(transaction: Transaction, wanted: Selection, statement: Select[*tuple[Any, ...]]) -> Iterator[int]:
    match = wanted.remembering()
    with transaction.execute(statement) as rows:
        for row in rows:
            if match(row[1], row[2]):
                yield row[0]


def _with_topics(wanted: Selection) -> Select[*tuple[Any, ...]]:
    return (
        select(_events.c.pos, _topics.c.id, _topics.c.name)
        .select_from(_events.join(_topics, _topics.c.id == _events.c.topic_id))
        .where(wanted.among(_topics.c.name))
    )


def _few_topics(transaction: Transaction, wanted: Selection, condition: ColumnElement[bool]) -> list[int] | None:
    """The ids of the topics that match and meet ``condition``; None if they are more than :data:`MERGED`."""
    statement = select(_topics.c.id, _topics.c.name).where(wanted.among(_topics.c.name), condition)
    ids: list[int] = []
    with transaction.execute(statement) as rows:
        for topic_id, name in rows:
            if wanted.matches(name):
                ids.append(topic_id)
                if len(ids) > MERGED:
                    return None
    return ids


def _merge(transaction: Transaction, topics: Sequence[int], after: int, end: int, limit: int) -> list[int]:
    """The first ``limit`` positions of these topics with ``after < pos <= end``, in order."""
    if transaction.dialect.name == "postgresql":
        return _merge_there(transaction, topics, (_events.c.pos > after) & (_events.c.pos <= end), limit, back=False)
    best: list[int] = []  # negated: a heap whose first is the last position wanted so far
    for topic in topics:
        bound = -best[0] - 1 if len(best) == limit else end  # nothing beyond it can be among the first
        for (pos,) in transaction.exec_driver_sql(
            "SELECT pos FROM journal_events WHERE topic_id = ? AND pos > ? AND pos <= ? ORDER BY pos LIMIT ?",
            (topic, after, bound, limit),
        ):
            if len(best) < limit:
                heapq.heappush(best, -pos)
            elif pos < -best[0]:
                heapq.heapreplace(best, -pos)
            else:
                break
    return sorted(-pos for pos in best)


def _merge_there(
    transaction: Transaction, topics: Sequence[int], between: ColumnElement[bool], limit: int, *, back: bool
) -> list[int]:
    """The same in one statement, for a database to which every statement is a journey (SQLite has no LATERAL)."""
    order = _events.c.pos.desc() if back else _events.c.pos
    topic = rows_of(transaction, {"id": BigInteger()}, [(one,) for one in topics], name="topic")
    each = select(_events.c.pos).where(_events.c.topic_id == topic.c.id, between).order_by(order).limit(limit).lateral()
    statement = select(each.c.pos).select_from(topic.join(each, true()))
    found = transaction.scalars(statement.order_by(each.c.pos.desc() if back else each.c.pos).limit(limit)).all()
    return list(found)


# -- backwards --------------------------------------------------------------------------------------------------------


def read_back(transaction: Transaction, patterns: Sequence[str], before: int, limit: int) -> Page:
    """See :meth:`Journal.read_back`."""
    wanted = selection(patterns)
    if limit < 1:
        return Page((), before - 1, False)
    found = _backwards(transaction, wanted, before, limit + 1)
    rows = _fetch(transaction, found[:limit])
    return Page(rows[::-1], rows[0].pos if rows else before - 1, len(rows) < len(found))


def _backwards(transaction: Transaction, wanted: Selection, before: int, limit: int) -> list[int]:
    """The last ``limit`` positions before ``before``, the last one first."""
    if wanted.everything:
        statement = select(_events.c.pos).where(_events.c.pos < before).order_by(_events.c.pos.desc()).limit(limit)
        return list(transaction.scalars(statement))
    topics = _few_topics(transaction, wanted, _topics.c.born_pos < before)
    if topics is not None:
        return _merge_back(transaction, topics, before, limit)
    found: list[int] = []
    while len(found) < limit:
        last = transaction.scalar(select(func.max(_events.c.pos)).where(_events.c.pos < before))
        if last is None:
            break
        between = (_events.c.pos > last - WINDOW) & (_events.c.pos <= last)
        window = _with_topics(wanted).where(between).order_by(_events.c.pos.desc())
        found.extend(islice(_matching(transaction, wanted, window), limit - len(found)))
        before = last - WINDOW + 1
    return found


def _merge_back(transaction: Transaction, topics: Sequence[int], before: int, limit: int) -> list[int]:
    if transaction.dialect.name == "postgresql":
        return _merge_there(transaction, topics, _events.c.pos < before, limit, back=True)
    best: list[int] = []  # a heap whose first is the earliest position wanted so far
    for topic in topics:
        for (pos,) in transaction.exec_driver_sql(
            "SELECT pos FROM journal_events WHERE topic_id = ? AND pos < ? AND pos > ? ORDER BY pos DESC LIMIT ?",
            (topic, before, best[0] if len(best) == limit else 0, limit),
        ):
            if len(best) < limit:
                heapq.heappush(best, pos)
            elif pos > best[0]:
                heapq.heapreplace(best, pos)
            else:
                break
    return sorted(best, reverse=True)


# -- rows -------------------------------------------------------------------------------------------------------------


def _fetch(transaction: Transaction, positions: Sequence[int]) -> list[Recorded]:
    """The events at ``positions``, in that order, as many as :data:`PAGE_BYTES` hold, but one at least."""
    if not positions:
        return []
    given = rows_of(transaction, {"pos": BigInteger()}, [(pos,) for pos in positions])
    statement = select(_events.c.pos, func.length(_events.c.data)).where(_events.c.pos == given.c.pos)
    sizes = {row[0]: row[1] for row in transaction.execute(statement)}
    total = 0
    fitting: list[int] = []
    for pos in positions:
        total += sizes[pos]
        if total > PAGE_BYTES and fitting:
            break
        fitting.append(pos)
    given = rows_of(transaction, {"pos": BigInteger()}, [(pos,) for pos in fitting])
    rows = transaction.execute(
        select(
            _events.c.pos,
            _events.c.seq,
            _topics.c.name,
            _events.c.id,
            _events.c.type,
            _events.c.source,
            _events.c.time_ms,
            _events.c.run,
            _events.c.token,
            _events.c.data,
        ).where(_events.c.pos == given.c.pos, _topics.c.id == _events.c.topic_id)
    )
    there = {
        pos: Recorded(
            Event(
                topic=name,
                type=type_,
                id=id_,
                source=source,
                time_ms=time_ms,
                data=bytes(data),
                run=run,
                token=token,
            ),
            seq,
            pos,
        )
        for pos, seq, name, id_, type_, source, time_ms, run, token, data in rows
    }
    return [there[pos] for pos in fitting]


def topics(transaction: Transaction, pattern: str, after: str, limit: int) -> list[TopicInfo]:
    """See :meth:`Journal.topics`."""
    wanted = selection([pattern])
    found: list[TopicInfo] = []
    while len(found) < limit:
        rows = transaction.execute(
            select(_topics.c.name, _topics.c.gone_seq, _topics.c.last_seq, _topics.c.last_pos)
            .where(wanted.among(_topics.c.name), _topics.c.name > after)
            .order_by(_topics.c.name)
            .limit(TOPICS_LOOKED_AT)
        ).all()
        matching = (
            TopicInfo(row.name, row.gone_seq + 1, row.last_seq, row.last_pos)
            for row in rows
            if wanted.matches(row.name)
        )
        found.extend(islice(matching, limit - len(found)))
        if len(rows) < TOPICS_LOOKED_AT:
            break
        after = rows[-1].name
    return found
