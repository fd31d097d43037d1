"""What a slice of mailing works with, and on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred

from msgd.clock import Clock
from msgd.jobs.interface import Jobs
from msgd.services.mailer.beat import Beat
from msgd.services.mailer.composing import Copy, Mailing
from msgd.services.mailer.hands import Hands
from msgd.services.mailer.judging import Patience
from msgd.services.mailer.ledger import Row
from msgd.services.mailer.pace import Pace
from msgd.services.mailer.press import Press
from msgd.services.mailer.ways import Way


class Means(Struct, frozen=True):
    """What the slices of a process share."""

    way: Way
    press: Press
    pace: Pace
    hands: Hands
    writing: Beat  # of the ledger
    telling: Beat
    patience: Patience
    sign: Callable[[bytes], Deferred[bytes]] | None  # a whole message; None: they are not signed
    clock: Clock
    now_ms: Callable[[], int]
    jitter: Callable[[], float]
    jobs: Jobs


class Stretch(Struct, frozen=True, kw_only=True):
    """The rows of a slice, and how their mails are made out."""

    id: int  # of the mailing
    job: str  # of the whole mailing
    run: int  # of that
    first: int
    last: int
    mailing: Mailing
    copy: Callable[[Row], Copy]
    sender: Callable[[Row], str]  # the envelope's


class Saved(Struct, frozen=True, omit_defaults=True):
    """What a slice of mailing tells the next."""

    tried: bool = False  # a first mail could be made
    away_ms: int | None = None  # since when the server is away
    looks: int = 0  # so far, at a mailing that is paused

    def state(self, **changes: Any) -> Any:
        """With these changes, as the job's state."""
        return msgspec.to_builtins(msgspec.structs.replace(self, **changes))

    @classmethod
    def of(cls, state: Any) -> Saved:
        """Out of the state of a job; nothing, if there is none yet, or it is of a job that waits for its parts."""
        return msgspec.convert(state, cls) if isinstance(state, dict) else cls()
