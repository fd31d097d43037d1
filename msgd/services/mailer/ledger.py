"""The words of the ledger: what is known of each recipient of a mailing. Pure.

::

    queued ──► sending ──► sent
      ▲  ▲        ├──────► deferred ──► sending, when its time has come
      │  └────────┤        (or bounced, after so long)
      │           ├──────► bounced
      │           └──────► unknown     the answer to the end of the data never came, or who waited for it died
      └─ nothing had been handed over: the slice ended first
    queued, deferred ──► suppressed    wants no mail

*sending* is saved before a server is told anything. Whoever takes over a row in this state makes it *unknown*: it is
never sent again. *sent*, *bounced*, *suppressed* and *unknown* are final.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field


class RowState(enum.StrEnum):
    """Where a recipient is."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"


OPEN: Final = (RowState.QUEUED, RowState.SENDING, RowState.DEFERRED)
"""Not final."""


class Row(Struct, frozen=True, kw_only=True, array_like=True):
    """One recipient, as the slice that mails to it needs it."""

    row: int
    email: str
    key: str
    name: str
    vars: Mapping[str, Any]
    state: str
    attempt: int
    reply: str  # of its last attempt; of what is no address: why
    first_ms: int | None

    @property
    def mailable(self) -> bool:
        """Whether it is an address: what is none has a number for a key."""
        return "@" in self.key

    @property
    def domain(self) -> str:
        return self.key.rpartition("@")[2]


class NewRow(Struct, frozen=True):
    """A recipient to be put into the ledger. ``key`` empty: it cannot be mailed, and ``reply`` says why."""

    row: int
    email: str
    key: str
    name: str
    vars: Mapping[str, Any]
    reply: str = ""


class Ended(Struct, frozen=True):
    """What came of a recipient in this attempt."""

    row: int
    state: RowState
    attempt: int
    code: int | None = None
    reply: str = ""
    next_ms: int | None = None
    suppress: tuple[str, str] | None = None  # key and address, if it shall get no more mail


class MailingRow(Struct, frozen=True):
    """A mailing as it is saved."""

    id: int
    rows: int
    complete: bool
    paused: bool
    started_ms: int


class Shown(Struct, frozen=True, kw_only=True):
    """One recipient as it is shown."""

    row: int
    email: str
    name: str
    state: str
    attempt: int
    code: int | None
    reply: str
    next_ms: int | None
    changed_ms: int


class Remaining(Struct, frozen=True):
    """What is left of a stretch of rows: how many, and when the first deferred one is due."""

    now: int
    deferred: int
    next_ms: int | None


class Begun(Struct):
    """The answer to a step: which rows are *sending* now, which want no mail (and why), and whether to pause."""

    rows: set[int] = field(default_factory=set)
    suppressed: dict[int, str] = field(default_factory=dict)
    paused: bool = False


Counts = Mapping[str, int]
Rows = Sequence[Row]
