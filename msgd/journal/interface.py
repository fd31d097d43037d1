"""The contract of the journal: one writer, one order (DESIGN §3, "Events").

``pos`` increases over the whole journal and is visible in its order: who has read to ``pos`` has missed nothing below
it. ``seq`` is contiguous in a topic. Both are given once, by the holder of the lease. ``epoch`` names one life of the
journal: after a restore it is renewed, and cursors of the old one resume with a gap.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, overload

from msgspec import Struct

from msgd.database import Transaction
from msgd.messages.cursors import Cursor
from msgd.messages.events import Event, Recorded

W = TypeVar("W")


class Lease(Struct, frozen=True):
    """The right to write the journal, until somebody takes it over."""

    holder: str
    number: int  # increases with every acquisition: a fencing token


class HeadState(Struct, frozen=True):
    """How far the journal has come, and how far live push has."""

    epoch: str
    pos: int
    live_pos: int


class Appended(Struct, Generic[W], frozen=True):
    """One stored batch. ``recorded`` is in pos order; ``known`` and ``stale`` were dropped, in the order given."""

    epoch: str
    recorded: Sequence[Recorded]
    known: Sequence[Event]
    stale: Sequence[Event]
    within: W | None  # what the companion write returned


class Page(Struct, frozen=True):
    """A stretch of history in pos order."""

    events: Sequence[Recorded]
    upto: int  # everything that matches, up to and with this pos, is in this page or before it
    more: bool  # whether the page was cut by its limit


class GapReason(enum.StrEnum):
    """Why events that a reader asked for are not there."""

    TRIMMED = "trimmed"  # retention
    ERASED = "erased"  # the topic was deleted
    EPOCH = "epoch"  # the cursor is of another life of the journal
    REWOUND = "rewound"  # the cursor is ahead of the journal


class Gap(Struct, frozen=True):
    """What a reader has missed for good, in words that every transport passes on."""

    topic: str  # a topic, or the pattern asked for if the gap is in the whole journal
    requested: str  # the cursor asked for
    first: int | None  # the first seq there is; None: unknown, or a pattern
    lost: int | None  # how many; None: unknown
    reason: GapReason


class Resume(Struct, frozen=True):
    """Where a reader goes on: read after ``after``, having been told of ``gaps``."""

    after: int
    gaps: Sequence[Gap]


class TopicInfo(Struct, frozen=True):
    """What is kept of a topic."""

    topic: str
    first_seq: int  # of the first event kept; last_seq + 1 if none is
    last_seq: int
    last_pos: int


class Retention(Struct, frozen=True):
    """How much of the topics of a pattern is kept; the first rule that matches a topic decides. None: no bound."""

    pattern: str
    keep: int | None = None  # events per topic
    max_age_ms: int | None = None


class Journal(Protocol):
    """The stored events."""

    # -- the one writer -----------------------------------------------------------------------------------------------

    async def acquire(self, holder: str, *, ttl_ms: int) -> Lease | None:
        """Take the lease if it is free, expired or already the holder's; None: somebody else has it."""

    async def renew(self, lease: Lease, *, ttl_ms: int) -> None:
        """Raises LeaseLost."""

    async def release(self, lease: Lease) -> None:
        """Give it up at once; harmless if lost."""

    @overload
    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        *,
        live_pos: int | None = None,
        within: Callable[[Transaction, Sequence[Event], Sequence[Recorded]], W],
    ) -> Appended[W]:
        """Store a batch in one transaction: lock the head, check the lease, drop stale and known events, number and
        store the others, move the head.

        Known: same topic, source and id, kept or trimmed within a day. Stale: on ``job.<id>``, a token lower than the
        highest seen there; events out of the outbox (``event.outbox`` set) raise that fence and never fall to it.
        ``live_pos``: live push has come that far, said in the same transaction. ``within`` is called in the
        transaction with all the events given and those recorded; in each, if one is rolled back and begun anew. Raises
        LeaseLost; InvalidInput if the database refuses an event's data (then nothing is stored: try them one by one).
        """

    @overload
    async def append(
        self, lease: Lease, events: Sequence[Event], *, live_pos: int | None = None, within: None = None
    ) -> Appended[None]: ...

    async def lived(self, lease: Lease, pos: int) -> None:
        """Live push has come to ``pos``. Raises LeaseLost."""

    # -- readers ------------------------------------------------------------------------------------------------------

    async def head(self) -> HeadState: ...

    async def resume(self, patterns: Sequence[str], since: Cursor | None) -> Resume:
        """Where to begin for a cursor (None: the first kept), and what is lost between it and what there is."""

    async def read(self, patterns: Sequence[str], *, after: int, limit: int, upto: int | None = None) -> Page:
        """The events of topics matching any of the patterns with ``after < pos`` (``<= upto``), at most ``limit`` of
        them and about 4 MiB of data."""

    async def read_back(self, patterns: Sequence[str], *, before: int, limit: int) -> Page:
        """The last events with ``pos < before``, at most ``limit``, in pos order (not reversed)."""

    async def topics(self, pattern: str, *, after: str = "", limit: int = 100) -> Sequence[TopicInfo]:
        """The topics that match, in name order, after a name."""

    # -- followers ----------------------------------------------------------------------------------------------------

    async def follower(self, name: str) -> int:
        """The stored pos of a follower; one that is new begins at the present head."""

    def advance(self, transaction: Transaction, name: str, expected: int, pos: int) -> bool:
        """Move a follower from ``expected`` to ``pos`` in the transaction of what it did there; False: another one of
        the same name was faster, roll back. Blocking; called in a database thread."""

    # -- retention ----------------------------------------------------------------------------------------------------

    async def trim(self, rules: Sequence[Retention], *, limit: int = 5000) -> int:
        """Delete events beyond the rules, at most ``limit``; how many. Their ids are remembered a day."""

    async def erase(self, topic: str) -> int:
        """Delete all events of a topic; its seq goes on, readers get a gap. How many there were."""

    async def renew_epoch(self) -> str:
        """Begin a new life after a restore: cursors of the old one resume with a gap."""
