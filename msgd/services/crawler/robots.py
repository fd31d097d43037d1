"""The Robots Exclusion Protocol: what a host lets us fetch, and how fast.

Source: RFC 9309. Protego decides about paths; here is what to make of the answers to ``/robots.txt``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from protego import Protego

from msgd.services.crawler.fetch import FetchError

ROBOTS_BYTES: Final = 500 * 1024
"""RFC 9309 §2.5: at least 500 KiB are parsed; what follows is ignored."""

ROBOTS_REDIRECTS: Final = 5
"""RFC 9309 §2.3.1.2: at least five consecutive redirects are followed; more count as "no such file"."""

ROBOTS_S: Final = 24 * 3600.0
"""RFC 9309 §2.4: a cached version is not used for more than a day."""

UNREACHABLE_S: Final = 60.0
"""Seconds until an unreachable robots.txt is asked for again: until then nothing of the host is fetched."""

UNREACHED_S: Final = 5.0
"""The same where no connection came about: asking again costs nobody anything, and somebody may be waiting."""

CRAWL_DELAY_S: Final = 60.0
"""Longest Crawl-delay that is honoured to the letter: one page a minute ends nowhere as it is."""

CACHED_HOSTS: Final = 2000
"""Hosts whose rules are kept; the least recently used go first."""

AGENT: Final = "msgd"
"""The product token that a robots.txt addresses us by (RFC 9309 §2.2.1)."""


class Rules:
    """What one host's robots.txt says to us."""

    def __init__(
        self,
        *,
        until: float,
        text: str | None = None,
        closed: str = "",
        passes: bool = True,
        unreached: FetchError | None = None,
    ) -> None:
        """``until``: seconds on the caller's clock, to which they hold; ``text``: the file; ``closed``: why nothing may
        be fetched at all, ``passes``: whether that may change soon, and ``unreached``: that no connection came about.
        """
        self.until = until
        self.closed = closed
        self.passes = passes
        self.unreached = unreached
        self._parsed = Protego.parse(text) if text else None

    def allows(self, url: str) -> bool:
        """Whether this page may be fetched."""
        if self.closed:
            return False
        return self._parsed is None or bool(self._parsed.can_fetch(url, AGENT))

    @property
    def crawl_delay_s(self) -> float:
        """Seconds that the host wants between requests; 0: it says nothing."""
        wanted = self._parsed.crawl_delay(AGENT) if self._parsed is not None else None
        return min(max(wanted or 0.0, 0.0), CRAWL_DELAY_S)

    @property
    def sitemaps(self) -> Sequence[str]:
        """The sitemaps that it names."""
        return list(self._parsed.sitemaps) if self._parsed is not None else []


def rules_of(status: int, body: bytes, now: float) -> Rules:
    """What an answer to ``/robots.txt`` means (RFC 9309 §2.3.1); redirects have been followed."""
    if 200 <= status < 300:
        return Rules(until=now + ROBOTS_S, text=body[:ROBOTS_BYTES].decode("utf-8-sig", "replace"))
    if 300 <= status < 500 and status != 429:
        return open_rules(now)  # "unavailable": everything is allowed. 429 asks us to slow down: it is no such answer
    return unreachable(f"robots.txt answered with status {status}", now)


def open_rules(now: float) -> Rules:
    """No robots.txt: everything is allowed."""
    return Rules(until=now + ROBOTS_S)


def unreachable(why: str, now: float, *, passes: bool = True) -> Rules:
    """The file cannot be had: nothing is allowed until it can. ``passes``: whether that may change soon."""
    return Rules(until=now + UNREACHABLE_S, closed=why, passes=passes)


def unreached(error: FetchError, now: float) -> Rules:
    """Not even the host can be had: the same, and asked for again sooner."""
    return Rules(until=now + UNREACHED_S, closed=str(error), passes=error.retryable, unreached=error)


class RobotsCache:
    """The rules of the hosts seen lately, shared by all crawls of a process."""

    def __init__(self, limit: int = CACHED_HOSTS) -> None:
        self._rules: OrderedDict[str, Rules] = OrderedDict()
        self._limit = limit

    def get(self, host: str, now: float) -> Rules | None:
        """The rules of a host, if they still hold."""
        rules = self._rules.get(host)
        if rules is None or rules.until <= now:
            return None
        self._rules.move_to_end(host)
        return rules

    def put(self, host: str, rules: Rules) -> None:
        self._rules[host] = rules
        self._rules.move_to_end(host)
        while len(self._rules) > self._limit:
            self._rules.popitem(last=False)
