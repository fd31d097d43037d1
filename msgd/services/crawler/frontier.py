"""The frontier: which pages are known, which may be fetched now, and why that order. Pure.

**Order.** Pages are fetched level by level: all of one level are saved before one of the next begins. So a page's depth
is the shortest way to it from the start, whichever of its links was seen first, and a site that does not change gives
the same pages at the same depths however many requests are under way and however often the crawler is killed. The price
is that a slow page holds up the end of its level, for :data:`~msgd.services.crawler.fetch.BODY_S` at most.

A level is a depth and, within it, the redirects that led there: a redirect's target is as deep as the page that
redirects, one level on.

**Limits.** Of a level's pages, in the order of their numbers, only as many are taken as there is room for under
``max_pages`` *as it was saved last*. What had been published but not saved before a crash is among the first of them
again, so ``max_pages`` is exact: redirects, sitemaps and pages that robots.txt forbids do not count and make room only
once they are saved.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from msgd.services.crawler.urls import Address, host_of

REDIRECTS: Final = 10
"""Redirects in a row; browsers follow 20 (Fetch standard), sites that mean well need three."""

HOPS: Final = 16
"""Levels to one depth: room for the redirects, and for sitemaps within sitemaps after them."""

PAGE: Final = 0
SITEMAP: Final = 1

_SALTS: Final = {PAGE: b"", SITEMAP: b"sitemap"}


def level_of(depth: int, hops: int = 0) -> int:
    """The level of pages at ``depth`` links from the start and ``hops`` redirects on."""
    return depth * HOPS + hops


def digest(key: str, kind: int = PAGE) -> bytes:
    """16 bytes that stand for a key in the unique index: URLs may be 4 KB long. A sitemap may also be linked to as a
    page."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, salt=_SALTS[kind]).digest()


class Entry(Struct, frozen=True):
    """A URL of the frontier that is to be fetched."""

    n: int
    url: str
    level: int
    kind: int = PAGE
    tries: int = 0  # that have failed

    @property
    def depth(self) -> int:
        return self.level // HOPS

    @property
    def hops(self) -> int:
        return self.level % HOPS


class Link(Struct, frozen=True):
    """A URL that was found."""

    address: Address
    level: int
    kind: int = PAGE

    @property
    def may_settle(self) -> bool:
        """Whether it may change what is known of a page that was found before.

        A redirect's target may stand on a lower level than a link to it that was seen earlier; a query may have its
        arguments in another order. All other links say what the first one said.
        """
        return self.level % HOPS != 0 or "?" in self.address.url


class Ready:
    """The entries in hand, by host, each host's in order; a host that must wait does not hold up the others."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, deque[Entry]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, entries: Iterable[Entry]) -> None:
        """Behind what waits of the same host."""
        for entry in entries:
            host = host_of(entry.url)
            queue = self._hosts.get(host)
            if queue is None:
                queue = self._hosts[host] = deque()
            queue.append(entry)
            self._size += 1

    def hosts(self) -> Iterator[str]:
        """The hosts that something waits for, the one served longest ago first."""
        return iter(tuple(self._hosts))

    def take(self, host: str) -> Entry:
        """The next entry of a host, which goes to the end of the line."""
        queue = self._hosts[host]
        entry = queue.popleft()
        self._size -= 1
        if queue:
            self._hosts.move_to_end(host)
        else:
            del self._hosts[host]
        return entry

    def clear(self) -> None:
        self._hosts.clear()
        self._size = 0
