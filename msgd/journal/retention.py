"""Trimming by rules, erasing by hand: what goes, what is remembered of it, and for how long.

Events go from the beginning of a topic only, so that one number says what is left of it. The keys of what has gone
stay for a day (a copy that comes late is still known), and so does its seq (a gap can say how many were lost).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import bindparam, delete, exists, func, insert, or_, select, update

from msgd.database import Transaction
from msgd.journal import tables
from msgd.journal.append import lock_head
from msgd.journal.interface import Retention
from msgd.journal.numbering import event_key
from msgd.journal.selection import selection
from msgd.messages.topics import matches

REMEMBERED_MS: Final = 24 * 3600 * 1000
"""How long the ids of events that have gone are still known (DESIGN §4.8)."""

ERASED_AT_A_TIME: Final = 5_000
"""Events in one transaction of an erase: the recorder waits for its end."""

MARK_EVERY_MS: Final = 10 * 60 * 1000
"""How exact an age is that retention goes by."""

MARKS_KEPT_MS: Final = 366 * 24 * 3600 * 1000
"""Marks for rules yet to be made; longer if a rule in force needs them."""

_topics: Final = tables.topics
_events: Final = tables.events
_marks: Final = tables.marks


class Cut(Struct, frozen=True):
    """Where to cut one topic: events up to ``seq``, and those up to ``pos``, go."""

    topic_id: int
    seq: int
    pos: int


# -- by rules ---------------------------------------------------------------------------------------------------------


def cuts(transaction: Transaction, rules: Sequence[Retention], now_ms: int, limit: int) -> list[Cut]:
    """At most ``limit`` topics that hold more than the first rule that matches them lets them keep."""
    found: list[Cut] = []
    for place, rule in enumerate(rules):
        old = 0 if rule.max_age_ms is None else _pos_at(transaction, now_ms - rule.max_age_ms)
        too_many = None if rule.keep is None else _topics.c.last_seq - _topics.c.gone_seq > rule.keep
        too_old = exists().where(_events.c.topic_id == _topics.c.id, _events.c.pos <= old) if old else None
        conditions = [condition for condition in (too_many, too_old) if condition is not None]
        if not conditions:
            continue
        statement = select(_topics.c.id, _topics.c.name, _topics.c.last_seq).where(
            selection([rule.pattern]).among(_topics.c.name), or_(*conditions)
        )
        with transaction.execute(statement) as rows:
            for topic_id, name, last_seq in rows:
                if _first_match(rules, name) == place:
                    found.append(Cut(topic_id, 0 if rule.keep is None else last_seq - rule.keep, old))
                    if len(found) == limit:
                        return found
    return found


def _first_match(rules: Sequence[Retention], topic: str) -> int | None:
    return next((place for place, rule in enumerate(rules) if matches(rule.pattern, topic)), None)


def _pos_at(transaction: Transaction, time_ms: int) -> int:
    """A position that the journal had reached by then; 0: not known."""
    pos = transaction.scalar(select(func.max(_marks.c.pos)).where(_marks.c.time_ms <= time_ms))
    return pos or 0


def mark(transaction: Transaction, rules: Sequence[Retention], now_ms: int) -> None:
    """Note how far the journal is now, for ages to come; forget the marks that nobody will ask for."""
    head = lock_head(transaction)
    last = transaction.execute(select(_marks).order_by(_marks.c.time_ms.desc()).limit(1)).first()
    if last is None or (last.time_ms <= now_ms - MARK_EVERY_MS and last.pos < head.pos):
        transaction.execute(insert(_marks), {"time_ms": now_ms, "pos": head.pos})
    oldest = now_ms - max([MARKS_KEPT_MS, *(rule.max_age_ms or 0 for rule in rules)])
    still_needed = select(func.max(_marks.c.time_ms)).where(_marks.c.time_ms <= oldest).scalar_subquery()
    transaction.execute(delete(_marks).where(_marks.c.time_ms < still_needed))


# -- what goes --------------------------------------------------------------------------------------------------------


def remove(transaction: Transaction, cuts: Sequence[Cut], now_ms: int, limit: int, *, erased: bool = False) -> int:
    """Delete the events that ``cuts`` name, the oldest of each topic first, at most ``limit``; how many."""
    lock_head(transaction)
    gone: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    for cut in cuts:
        victims = transaction.execute(
            select(_events.c.pos, _events.c.seq, _events.c.id, _events.c.source)
            .where(_events.c.topic_id == cut.topic_id, or_(_events.c.seq <= cut.seq, _events.c.pos <= cut.pos))
            .order_by(_events.c.pos)
            .limit(limit - len(gone))
        ).all()
        if not victims:
            continue
        gone.extend(
            {
                "topic_id": cut.topic_id,
                "pos": row.pos,
                "seq": row.seq,
                "key": event_key(cut.topic_id, row.source, row.id),
                "trimmed_ms": now_ms,
            }
            for row in victims
        )
        moved.append({"topic": cut.topic_id, "seq": victims[-1].seq, "pos": victims[-1].pos})
        if len(gone) >= limit:
            break
    if gone:
        transaction.execute(insert(tables.trimmed), gone)
        transaction.execute(
            delete(_events).where(_events.c.topic_id == bindparam("topic"), _events.c.pos <= bindparam("upto")),
            [{"topic": move["topic"], "upto": move["pos"]} for move in moved],
        )
        values: dict[str, Any] = {"gone_seq": bindparam("seq"), "gone_pos": bindparam("pos")}
        if erased:
            values["erased_pos"] = bindparam("pos")
        transaction.execute(update(_topics).where(_topics.c.id == bindparam("topic")).values(values), moved)
    return len(gone)


def whole(transaction: Transaction, topic: str) -> Cut | None:
    """Where to cut to erase ``topic`` as it is now; None: there is nothing of it."""
    row = transaction.execute(select(_topics).where(_topics.c.name == topic)).first()
    return None if row is None or row.gone_seq == row.last_seq else Cut(row.id, row.last_seq, 0)


def forget(transaction: Transaction, now_ms: int, limit: int) -> int:
    """Drop the keys of events that went more than a day ago, at most ``limit``; how many."""
    trimmed = tables.trimmed
    old = transaction.execute(
        select(trimmed.c.topic_id, trimmed.c.pos, trimmed.c.key)
        .where(trimmed.c.trimmed_ms <= now_ms - REMEMBERED_MS)
        .order_by(trimmed.c.trimmed_ms)
        .limit(limit)
    ).all()
    if old:
        transaction.execute(
            delete(tables.keys).where(tables.keys.c.key == bindparam("old")), [{"old": row.key} for row in old]
        )
        transaction.execute(
            delete(trimmed).where(trimmed.c.topic_id == bindparam("topic"), trimmed.c.pos == bindparam("at")),
            [{"topic": row.topic_id, "at": row.pos} for row in old],
        )
    return len(old)
