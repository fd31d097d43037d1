"""Where a reader goes on, and what is lost between its cursor and what there is: never silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, func, select

from msgd.database import Transaction
from msgd.journal import tables
from msgd.journal.interface import Gap, GapReason, Resume
from msgd.journal.selection import Selection, selection
from msgd.messages.cursors import Cursor
from msgd.messages.topics import is_pattern

GAPS: Final = 100
"""Topics named one by one; a reader of more that has been away for long gets one gap for the whole pattern."""

_topics: Final = tables.topics
_trimmed: Final = tables.trimmed


def resume(transaction: Transaction, patterns: Sequence[str], since: Cursor | None) -> Resume:
    """See :meth:`Journal.resume`."""
    selection(patterns)  # raises InvalidTopic
    if since is None:
        return Resume(0, ())
    head = transaction.execute(select(tables.head.c.epoch, tables.head.c.pos)).one()
    if since.epoch != head.epoch:
        return Resume(0, _of_another_life(transaction, patterns, since, GapReason.EPOCH))
    if since.pos > head.pos:
        return Resume(0, _of_another_life(transaction, patterns, since, GapReason.REWOUND))
    return Resume(since.pos, _missed(transaction, patterns, since))


def _of_another_life(
    transaction: Transaction, patterns: Sequence[str], since: Cursor, reason: GapReason
) -> tuple[Gap, ...]:
    """What the reader knows cannot be compared with what there is: it begins anew, at the first kept."""
    names = [pattern for pattern in patterns if not is_pattern(pattern)]
    rows = transaction.execute(select(_topics.c.name, _topics.c.gone_seq).where(_topics.c.name.in_(names)))
    first = {row.name: row.gone_seq + 1 for row in rows}
    return tuple(Gap(pattern, str(since), first.get(pattern), None, reason) for pattern in dict.fromkeys(patterns))


def _missed(transaction: Transaction, patterns: Sequence[str], since: Cursor) -> tuple[Gap, ...]:
    """The topics of which something after ``since`` has gone, by name; a pattern stands for more than :data:`GAPS`."""
    names = [pattern for pattern in patterns if not is_pattern(pattern)]
    gaps: dict[str, Gap] = {}
    for asked in ([names] if names else []) + [[pattern] for pattern in patterns if is_pattern(pattern)]:
        found = _gone(transaction, selection(asked), since.pos, len(names) + GAPS)
        if found is None:
            gaps[asked[0]] = Gap(asked[0], str(since), None, None, GapReason.TRIMMED)
        else:
            gaps.update((row.name, _gap(transaction, row, since)) for row in found if row.name not in gaps)
    return tuple(gaps[name] for name in sorted(gaps))


def _gone(transaction: Transaction, wanted: Selection, pos: int, limit: int) -> list[Row[Any]] | None:
    """The topics that have lost events after ``pos``; None if they are more than ``limit``."""
    # Few topics have lost something lately, and the index on that is to be used, whatever the names look like.
    gone = select(_topics).where(_topics.c.gone_pos > pos).cte("gone").prefix_with("MATERIALIZED")
    statement = select(gone)
    if not wanted.everything:
        statement = statement.where(wanted.among(gone.c.name))
    found: list[Row[Any]] = []
    with transaction.execute(statement) as rows:
        for row in rows:
            if wanted.matches(row.name):
                found.append(row)
                if len(found) > limit:
                    return None
    return found


def _gap(transaction: Transaction, row: Row[Any], since: Cursor) -> Gap:
    seen = _seq_at(transaction, row, since.pos)
    reason = GapReason.ERASED if row.erased_pos > since.pos else GapReason.TRIMMED
    return Gap(
        row.name,
        str(since),
        row.gone_seq + 1,
        None if seen is None else row.gone_seq - seen,
        reason,
    )


def _seq_at(transaction: Transaction, row: Row[Any], pos: int) -> int | None:
    """How many events the topic had at ``pos``, which lies among those that have gone; None: not known any more."""
    if pos < row.born_pos:
        return 0
    before: int | None = transaction.scalar(
        select(func.max(_trimmed.c.seq)).where(_trimmed.c.topic_id == row.id, _trimmed.c.pos <= pos)
    )
    return before
