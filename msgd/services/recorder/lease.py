"""Keeps the journal's lease, and says in good time when it can no longer be sure of it."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from msgd.clock import Clock, sleep
from msgd.errors import LeaseLost, Unavailable
from msgd.journal.interface import Journal, Lease

_log = Logger()

TTL_S: Final = 6.0
"""How long a recorder that was killed holds up the events: short, for people watch; long against a pause of the
database or of the process."""

RENEW_S: Final = 1.0
"""Three renewals may fail before the lease is in danger."""

SAFETY_S: Final = 2.0
"""How long before the lease expires its holder stops by itself: what it has under way must have come to rest."""


class Keeper:
    """Renews the lease of one process.

    Whoever has lost the lease cannot append (the journal sees to that); what it could still do wrong is to publish live
    what its successor publishes too. So it stops before anybody else can have begun.
    """

    def __init__(self, journal: Journal, clock: Clock, holder: str, *, ttl_s: float = TTL_S) -> None:
        self._journal = journal
        self._clock = clock
        self._holder = holder
        self._ttl_s = ttl_s
        self._ttl_ms = int(ttl_s * 1000)
        self._since_s = 0.0

    async def acquire(self) -> Lease | None:
        """The lease, or None if somebody else has it. Raises Unavailable."""
        asked_s = self._clock.seconds()
        lease = await self._journal.acquire(self._holder, ttl_ms=self._ttl_ms)
        self._since_s = asked_s  # it counts from the asking: when it was given nobody here can know
        return lease

    async def keep(self, lease: Lease) -> None:
        """Renew it for as long as that can be done; raises LeaseLost. Cancel it to stop."""
        while (left_s := self._left_s()) > 0:
            await sleep(self._clock, min(RENEW_S, left_s))
            await self._renew(lease)
        raise LeaseLost(f"the lease {lease.number} could not be renewed in {self._ttl_s - SAFETY_S:g} s")

    def _left_s(self) -> float:
        """For how long this process may still act on its lease."""
        return self._since_s + self._ttl_s - SAFETY_S - self._clock.seconds()

    async def _renew(self, lease: Lease) -> None:
        """Try once, not beyond what is left."""
        asked_s = self._clock.seconds()
        renewal = Deferred.fromCoroutine(self._journal.renew(lease, ttl_ms=self._ttl_ms))
        renewal.addTimeout(max(0.0, self._left_s()), self._clock)  # type: ignore[arg-type]  # a Clock is an IReactorTime
        try:
            await renewal
        except (Unavailable, TimedOut) as error:
            _log.warn("the lease could not be renewed: {error}", error=error)
        else:
            self._since_s = asked_s
