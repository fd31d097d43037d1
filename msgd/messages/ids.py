"""Ids for jobs and events that have none: sortable by time, one topic word."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

IdMaker = Callable[[int], str]
"""Makes an id from the time in milliseconds since 1970; injected, so that tests can predict it."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)

_FIRST_BITS: Final = 79
"""Of 80, for the first id of a millisecond: what follows in it never runs over into the next."""

_STEP_BITS: Final = 48
"""Of the step to the next id of the same millisecond: nobody guesses one id from another."""


class SortableIds:
    """Makes ids that sort as they were made, also within one millisecond, as long as the time does not go back.

    An id is 48 bits of time and 80 random bits, as 26 characters of Crockford's base 32: a monotonic ULID.
    """

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, now_ms: int) -> str:
        """A new id; ``now_ms``: the time in milliseconds since 1970."""
        if self._last >> 80 == now_ms:
            number = self._last + 1 + secrets.randbits(_STEP_BITS)
        else:
            number = now_ms << 80 | secrets.randbits(_FIRST_BITS)
        self._last = number
        return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


new_id: Final[IdMaker] = SortableIds()
"""The ids of this process."""
