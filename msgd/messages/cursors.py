"""Where a reader is: ``<epoch>-<pos>``, one form for one topic, many, or a pattern. Clients treat it as opaque."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from msgd.errors import InvalidCursor

_CURSOR: Final = re.compile(r"([A-Za-z0-9]{1,32})-([0-9]{1,18})")

FIRST: Final = "0"
"""What a client says to read from the first event kept."""


class Cursor(Struct, frozen=True):
    """A place in the journal: after the event with number ``pos`` in the life ``epoch``."""

    epoch: str
    pos: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.pos}"


def parse_cursor(text: str) -> Cursor | None:
    """The cursor in ``text``; None for ``"0"``, from the first kept. Raises :class:`~msgd.errors.InvalidCursor`."""
    if text == FIRST:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidCursor(
            f"{text[:80]!r} is not a cursor: send one that an event, a page or 'subscribed' carried, or \"0\" for all",
            where="since",
        )
    return Cursor(found[1], int(found[2]))
