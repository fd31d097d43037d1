"""What a feed's answer means, and when it is asked again. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

LONGEST_S: Final = 86_400.0
"""Between two polls of a feed that fails, or asks for more time."""

DOUBTED: Final = 5
"""The failure in a row after which the feed is looked for where it was at first: it may have moved by mistake."""

PATIENCE_MS: Final = 14 * 86_400_000
"""After which a feed that always fails is given up: its owner has had two weeks to see and mend it."""


class FeedState(Struct, frozen=True, omit_defaults=True):
    """What one poll gives to the next."""

    url: str = ""  # where the feed has moved to for good
    etag: str = ""
    modified: str = ""
    polls: int = 0
    entries: int = 0  # published so far
    failures: int = 0  # in a row
    failing_ms: int = 0  # since when, in ms since 1970; 0: it does not fail
    title: str = ""
    problem: str = ""  # the last, as it was told


def failed(state: FeedState, problem: str, now_ms: int) -> FeedState:
    """The state after a poll that brought nothing to read."""
    lost = state.failures + 1 == DOUBTED
    return replace(
        state,
        url="" if lost else state.url,
        etag="" if lost else state.etag,
        modified="" if lost else state.modified,
        polls=state.polls + 1,
        failures=state.failures + 1,
        failing_ms=state.failing_ms or now_ms,
        problem=problem,
    )


def given_up(state: FeedState, now_ms: int) -> bool:
    """Whether it has failed for so long that it is not asked any more."""
    return bool(state.failing_ms) and now_ms - state.failing_ms > PATIENCE_MS


def pause_s(every_s: float, state: FeedState, asked_s: float | None = None) -> float:
    """Until the next poll: ``every_s``; after failures twice that, four times …, up to a day; and never before what
    the server asked for, up to a day too."""
    grown = every_s * 2.0 ** min(state.failures, 20)
    return max(every_s, min(max(grown, asked_s or 0.0), LONGEST_S))
