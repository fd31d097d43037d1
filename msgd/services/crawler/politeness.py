"""How fast a host is asked: per host, adapting to how fast it answers. Pure: ``now`` is passed in, in seconds.

With ``delay: "auto"`` the time between the starts of two requests is what the host takes to answer one, smoothed: it is
kept as busy as by one patient visitor, and a host that slows down is asked more slowly. Answers that say "too much"
(429, 503, and connections that fail) double the delay, good ones halve what was added. A number is that many seconds
instead; 0 leaves it to the concurrency. Whatever is chosen, the host's own Crawl-delay and Retry-After are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal

AUTO_START_S: Final = 0.5
"""Seconds between requests to a host whose answers are not known yet."""

AUTO_MAX_S: Final = 30.0
"""A host that takes longer than this to answer does not do so because of us."""

SMOOTHING: Final = 0.3
"""Weight of the newest answer in the mean: a single slow page does not stop a crawl, ten do slow it."""

PENALTY_MIN_S: Final = 0.5
PENALTY_MAX_S: Final = 60.0

RETRY_AFTER_S: Final = 60.0
"""Longest Retry-After that is waited for; a page that asks for more is an error."""

KNOWN_HOSTS: Final = 5000
"""Hosts whose pace is kept; the least recently used go first."""

OVERLOADED: Final = frozenset({429, 503})

Delay = float | Literal["auto"]


class Pace:
    """When the next request to one host may begin."""

    def __init__(self) -> None:
        self._next = 0.0
        self._pause = 0.0  # no request before, by Retry-After
        self._mean_s: float | None = None
        self._penalty_s = 0.0
        self.crawl_delay_s = 0.0
        """What its robots.txt asks for."""

    def delay_s(self, delay: Delay) -> float:
        """Seconds between the starts of two requests now."""
        if delay == "auto":
            mean = AUTO_START_S if self._mean_s is None else self._mean_s
            own = min(mean, AUTO_MAX_S) + self._penalty_s
        else:
            own = float(delay)
        return max(own, self.crawl_delay_s)

    def ready_at(self) -> float:
        """When the next request may begin."""
        return max(self._next, self._pause)

    def started(self, now: float, delay: Delay) -> None:
        """A request begins."""
        self._next = now + self.delay_s(delay)

    def answered(self, now: float, took_s: float, *, status: int, retry_after_s: float | None, delay: Delay) -> None:
        """It was answered after ``took_s``; ``status`` 0: not at all."""
        if retry_after_s is not None:
            self._pause = max(self._pause, now + min(retry_after_s, RETRY_AFTER_S))
        if status in OVERLOADED or status == 0:
            self._penalty_s = min(max(2 * self._penalty_s, PENALTY_MIN_S), PENALTY_MAX_S)
            return
        first = self._mean_s is None
        self._mean_s = took_s if self._mean_s is None else self._mean_s + SMOOTHING * (took_s - self._mean_s)
        self._penalty_s = self._penalty_s / 2 if self._penalty_s > PENALTY_MIN_S / 8 else 0.0
        if first and delay == "auto":  # the first guess is no reason to wait any longer
            self._next = min(self._next, now + self.delay_s(delay))


class Paces:
    """The paces of the hosts seen lately, shared by all crawls of a process, so that two of one host do not add up."""

    def __init__(self, limit: int = KNOWN_HOSTS) -> None:
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._limit = limit

    def of(self, host: str) -> Pace:
        """The pace of a host (scheme, name and port)."""
        pace = self._paces.get(host)
        if pace is None:
            pace = self._paces[host] = Pace()
            while len(self._paces) > self._limit:
                self._paces.popitem(last=False)
        else:
            self._paces.move_to_end(host)
        return pace
