"""What a page of several topics lacks, by what the journal says has been deleted. Pure.

A gap is asked for after the page was read, with the cursor in front of it; the page may still hold some of what the gap
says has gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from msgd.journal.interface import Gap
from msgd.notifier.items import Item


def first_kept(gap: Gap, items: Sequence[Item]) -> int | None:
    """The first seq of the gap's topic that a reader is shown, in this page or a later one; None: not known."""
    if gap.first is None:
        return None
    shown = next((item.event.seq for item in items if item.event.topic == gap.topic), None)
    return gap.first if shown is None else min(shown, gap.first)


def missing(gap: Gap, first: int | None, told: int | None) -> Gap | None:
    """What the reader is to be told of ``gap``; None: nothing. ``first``: of :func:`first_kept`; ``told``: what lies
    before this seq it has been shown, or told to be lost."""
    if gap.first is None or first is None:
        return gap
    if told is not None and told >= first:
        return None
    if gap.lost is None:
        return structs.replace(gap, first=first)
    lost = first - max(gap.first - gap.lost, told or 0)
    return structs.replace(gap, first=first, lost=lost) if lost > 0 else None
