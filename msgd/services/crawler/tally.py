"""What has ended since the last save, added up: the batch that is saved next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgd.services.crawler.frontier import HOPS, PAGE, Entry, Link
from msgd.services.crawler.store import Batch, Counts
from msgd.services.crawler.visit import Visited

REMEMBERED: Final = 200_000
"""URLs of links that this slice has saved, so as not to offer them to the database again."""

Ended = tuple[Entry, Visited | None]
"""An entry and what came of it; None: robots.txt forbids it."""


def most_known(max_pages: int) -> int:
    """URLs of which a frontier keeps track: far more than are fetched, but not all that a trap can invent."""
    return 10_000 + 10 * max_pages


class Tally:
    """Makes batches. One for each slice."""

    def __init__(self, sites: Sequence[str]) -> None:
        self.sites = list(sites)
        """The crawl's sites; a redirect of the start page adds the one that it leads to."""
        self._remembered: set[str] = set()

    def batch(self, ended: Sequence[Ended], *, room: int) -> Batch:
        """What is to be saved of these. ``room``: for so many links more."""
        done: list[int] = []
        tries: list[tuple[int, int]] = []
        links: list[Link] = []
        pages = errors = redirects = skipped = results = size = 0
        for entry, visited in ended:
            if visited is None:
                skipped += 1
            elif visited.again:
                tries.append((entry.n, entry.tries + 1))
                continue
            else:
                links += self._new(visited.links)
                results += len(visited.results)
                size += visited.bytes
                if entry.kind == PAGE:
                    if visited.redirect:
                        redirects += 1
                    else:
                        pages += 1
                        errors += visited.page is not None and visited.page.error is not None
                if visited.site and visited.site not in self.sites:
                    self.sites.append(visited.site)
            done.append(entry.n)
        counts = Counts(pages, errors, redirects, skipped, results, size)
        return Batch(done=done, tries=tries, links=links[: max(0, room)], counts=counts, sites=tuple(self.sites))

    def _new(self, links: Sequence[Link]) -> list[Link]:
        """Those that this slice has not saved yet, or that may settle something (see ``Link.may_settle``)."""
        if len(self._remembered) > REMEMBERED:
            self._remembered.clear()
        new = []
        for link in links:
            url = link.address.url
            if url not in self._remembered or link.level % HOPS:
                self._remembered.add(url)
                new.append(link)
        return new
