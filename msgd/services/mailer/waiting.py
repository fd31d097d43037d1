"""The rows of a slice that wait to be mailed to, by domain: each domain gets its turn. Pure.

Of a domain that is slowed down a few rows are kept, the others are passed over: they stay in the ledger for a slice to
come, so that they fill neither the memory nor the window through which the others come.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from msgd.services.mailer.ledger import Row
from msgd.services.mailer.pace import Pace

KEPT: Final = 20
"""Rows kept of a domain that is slowed down: as many mails as a slice sends it, when there is a second between two."""

SLOW: Final = 1000
"""Rows kept of all such domains together."""


class Waiting:
    """Rows, each known by its number, until it is chosen."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._rows: OrderedDict[str, deque[Row]] = OrderedDict()
        self._count = 0
        self._passed_over: set[str] = set()  # domains

    def __len__(self) -> int:
        return self._count

    @property
    def open(self) -> int:
        """How many wait, but for those of domains that are slowed down."""
        return sum(len(rows) for domain, rows in self._rows.items() if not self._pace.domain(domain).slowed)

    def add(self, rows: Iterable[Row]) -> list[Row]:
        """Rows out of the ledger; those that are kept."""
        kept = []
        for row in rows:
            waiting = self._rows.get(row.domain)
            many = self._count >= SLOW or (waiting is not None and len(waiting) >= KEPT)
            if many and self._pace.domain(row.domain).slowed:
                self._passed_over.add(row.domain)
                continue
            self._put(row)
            kept.append(row)
        return kept

    def put_back(self, row: Row) -> None:
        """One that was chosen is to be chosen again, before the others of its domain."""
        self._put(row)
        self._rows[row.domain].rotate(1)

    def _put(self, row: Row) -> None:
        self._rows.setdefault(row.domain, deque()).append(row)
        self._count += 1

    def choose(self, most: int, now_s: float) -> list[Row]:
        """The rows to make ready now, at most so many, as many of each domain as of the others."""
        chosen: list[Row] = []
        domains = list(self._rows)
        while domains and len(chosen) < most:
            share = max(1, (most - len(chosen)) // len(domains))
            domains = [domain for domain in domains if self._choose(domain, share, now_s, chosen, most)]
        return chosen

    def _choose(self, domain: str, share: int, now_s: float, chosen: list[Row], most: int) -> bool:
        """Whether there may be more of this domain."""
        rows, pace = self._rows[domain], self._pace.domain(domain)
        for _ in range(min(share, most - len(chosen))):
            worth_it_s = pace.worth_it_s(now_s)
            if worth_it_s is None or worth_it_s > now_s:
                return False
            pace.ready += 1
            chosen.append(rows.popleft())
            self._count -= 1
            if not rows:
                del self._rows[domain]
                return False
            self._rows.move_to_end(domain)
        return True

    def soonest_s(self, now_s: float) -> float | None:
        """When a row may be worth choosing again, if that is a matter of time: now, or a time to come."""
        times = [self._pace.domain(domain).worth_it_s(now_s) for domain in self._rows]
        return min((time for time in times if time is not None), default=None)

    def later_s(self, now_s: float) -> float:
        """When a slice that begins anew would find something to do, of what waits or was passed over."""
        domains = [self._pace.domain(domain) for domain in {*self._rows, *self._passed_over}]
        times = [domain.worth_it_s(now_s) for domain in domains]
        return min((now_s if time is None else time for time in times), default=now_s)
