"""How fast mail goes out: overall, and to each domain, which slows down when its server wants less. Pure.

Of a domain there are so many mails under way at a time; when a reply says that this is too much the number is halved
and nothing is sent for a while, and with each mail that is taken it grows again by a part of one: additive increase,
multiplicative decrease, as in TCP (RFC 5681). Below one at a time the pause between two mails doubles instead.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
"""After a server has said that it wants less; doubled at each further time, forgotten as mail is taken again."""

EARLY_S: Final = 0.5
"""How long before its turn a mail is made ready at most: what waits longer is not *sending* meanwhile."""

SHRINK: Final = 0.7
"""What an accepted mail leaves of the pause between two."""

DOMAINS: Final = 20_000
"""Domains remembered: those that are idle and unhindered are forgotten first."""


class Bucket:
    """A rate as a token bucket: so many a second, and a second's worth at once."""

    def __init__(self, rate: float) -> None:
        """``rate``: a second; 0 sets no limit."""
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._at_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """Seconds until one may be taken; 0: now."""
        if self._rate <= 0:
            return 0.0
        if self._at_s is not None:
            self._tokens = min(max(1.0, self._rate), self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate

    def take(self, now_s: float) -> None:
        """One is sent."""
        if self._rate > 0:
            self.wait_s(now_s)
            self._tokens -= 1

    def give_back(self) -> None:
        """One that was taken is not sent."""
        self._tokens += 1


class Domain:
    """The pace of one destination."""

    __slots__ = ("_held_until_s", "_limit", "_most", "_next_s", "_pause_s", "ready", "under_way")

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._pause_s = 0.0  # between two mails, when even one at a time is too much
        self._held_until_s = 0.0
        self._next_s = 0.0
        self.ready = 0  # mails that are made ready, and wait for their turn
        self.under_way = 0

    def ready_s(self, now_s: float) -> float | None:
        """When the next mail may begin: now or a time to come; None: not before one that is under way has ended."""
        if self.under_way >= max(1, int(self._limit)):
            return None
        return max(now_s, self._held_until_s, self._next_s)

    def worth_it_s(self, now_s: float) -> float | None:
        """When the next mail is worth being made ready, so that it need not wait long for its turn; None: not before
        one of those that are ready or under way has ended."""
        if self.slowed and self.ready + self.under_way >= max(1, int(self._limit)):
            return None
        return max(now_s, self._held_until_s - EARLY_S, self._next_s - EARLY_S)

    def begin(self, now_s: float) -> None:
        """A mail begins."""
        self.under_way += 1
        self._next_s = now_s + self._pause_s

    def end(self) -> None:
        """It has ended, whatever came of it."""
        self.under_way -= 1

    def go_on(self) -> None:
        """It has not, after all."""
        self.under_way += 1

    def taken(self) -> None:
        """A mail was accepted."""
        self._limit = min(float(self._most), self._limit + 1 / max(1.0, self._limit))
        self._pause_s = self._pause_s * SHRINK if self._pause_s > 0.05 else 0.0

    def pushed_back(self, now_s: float) -> None:
        """The server wants less."""
        if now_s < self._held_until_s:
            return  # of those that were under way together the first one counts
        self._limit = max(1.0, self._limit / 2)
        self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2))
        self._held_until_s = now_s + self._pause_s

    @property
    def slowed(self) -> bool:
        """Whether its server has wanted less, and that is not forgotten yet."""
        return self._pause_s > 0 or self._limit < self._most

    @property
    def unhindered(self) -> bool:
        """Whether it is as a new one would be."""
        return self.under_way == 0 and self.ready == 0 and not self.slowed


class Pace:
    """The overall rate and that of all destinations of a process."""

    def __init__(self, *, rate: float, per_domain: int) -> None:
        """``rate``: mails a second, 0 for no limit; ``per_domain``: mails under way to one domain at most."""
        self.overall = Bucket(rate)
        self._per_domain = per_domain
        self._domains: OrderedDict[str, Domain] = OrderedDict()

    def domain(self, name: str) -> Domain:
        """The pace of one destination."""
        found = self._domains.get(name)
        if found is None:
            found = self._domains[name] = Domain(self._per_domain)
            if len(self._domains) > DOMAINS:
                self._forget()
        else:
            self._domains.move_to_end(name)
        return found

    def _forget(self) -> None:
        for name in list(self._domains)[: DOMAINS // 10]:
            if self._domains[name].unhindered:
                del self._domains[name]
