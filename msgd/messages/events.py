"""What happened: events as they travel, events as the journal keeps them, and how an event gets its id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from msgd.messages.cursors import Cursor

TRANSIENT: Final = frozenset({"progress", "typing", "presence"})
"""Event types that are shown live and never journaled; their ``seq`` is null."""

STARTED: Final = "started"
PROGRESS: Final = "progress"
RETRYING: Final = "retrying"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
TYPING: Final = "typing"
ENDS: Final = frozenset({DONE, FAILED, CANCELLED})
"""The event types that end a job's run."""


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened on a topic, in CloudEvents' attribute meanings.

    ``data`` is the JSON received, byte for byte. ``run`` and ``token`` are set on events of jobs (DESIGN §3); ``n``
    orders the progress of one claim; ``outbox`` is the outbox row that the recorder deletes as it stores the event.
    """

    topic: str
    type: str
    id: str
    source: str
    time_ms: int  # since 1970, UTC
    data: bytes = b"null"
    run: int | None = None
    token: int | None = None
    n: int | None = None
    outbox: int | None = None

    @property
    def transient(self) -> bool:
        """Whether this event skips the journal."""
        return self.type in TRANSIENT


class Recorded(Struct, frozen=True):
    """An event with the numbers that the recorder gave it."""

    event: Event
    seq: int  # contiguous in its topic, from 1
    pos: int  # increasing over the whole journal

    def cursor(self, epoch: str) -> str:
        """Where a reader stands that has seen this event and all before it."""
        return str(Cursor(epoch, self.pos))


def event_id(job: str, run: int, type_: str, key: str = "") -> str:
    """The id of a job's event, the same at every repeat of the step: ``hash(job, run, type, key)``, 32 hex digits."""
    return event_ids(job, run)(type_, key)


def event_ids(job: str, run: int) -> Callable[[str, str], str]:
    """:func:`event_id` for the events of one run, by type and key: half of each hash is the same."""
    begun = hashlib.blake2b(_part(job) + _part(str(run)), digest_size=16)

    def id_of(type_: str, key: str) -> str:
        digest = begun.copy()
        digest.update(_part(type_) + _part(key))
        return digest.hexdigest()

    return id_of


def _part(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded  # lengths keep ("a", "bc") and ("ab", "c") apart
