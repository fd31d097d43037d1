"""Ids for jobs and events that have none: sortable by time, one topic word."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

IdMaker = Callable[[int], str]
"""Makes an id from the time in milliseconds since 1970; injected, so that tests can predict it."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(now_ms: int) -> str:
    """48 bits of time and 80 random bits as 26 characters of Crockford's base 32, in order of time (as a ULID)."""
    number = now_ms << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
