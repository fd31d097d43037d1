"""What is known of the hosts: their rules, loaded when first needed, and their pace. Shared by a process's crawls."""

from __future__ import annotations

from functools import partial
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import Clock
from msgd.services.crawler.coding import BrokenCoding, pieces
from msgd.services.crawler.fetch import REDIRECTS, Fetcher, FetchError
from msgd.services.crawler.offload import Offload
from msgd.services.crawler.politeness import Pace, Paces
from msgd.services.crawler.robots import (
    ROBOTS_BYTES,
    ROBOTS_REDIRECTS,
    RobotsCache,
    Rules,
    open_rules,
    rules_of,
    unreachable,
    unreached,
)
from msgd.services.crawler.urls import Base
from msgd.work.once import Once

_log = Logger()

FOR_EVER: Final = float("inf")


class Hosts:
    """Rules and paces by host (scheme, name and port)."""

    def __init__(self, fetcher: Fetcher, offload: Offload, clock: Clock, *, robots: bool = True) -> None:
        """``robots``: whether robots.txt is heeded; off only for benchmarks and for sites of one's own."""
        self._fetcher = fetcher
        self._offload = offload
        self._clock = clock
        self._cache = RobotsCache()
        self._paces = Paces()
        self._anything = None if robots else Rules(until=FOR_EVER)
        self._loading: dict[str, tuple[Once, Deferred[None]]] = {}

    def stop(self) -> None:
        """Give up what is being loaded."""
        for _, load in list(self._loading.values()):
            load.cancel()

    def pace(self, host: str) -> Pace:
        return self._paces.of(host)

    def rules(self, host: str) -> Rules | None:
        """The rules of a host; None if they must be loaded first."""
        return self._anything or self._cache.get(host, self._clock.seconds())

    def load(self, host: str) -> Deferred[None]:
        """Fires when the rules of a host are known. Several callers at a time share one request; one that is cancelled
        does not take it from the others."""
        if host not in self._loading:
            loaded = Once()
            load = Deferred.fromCoroutine(self._load(host))
            self._loading[host] = loaded, load
            load.addErrback(self._broken, host)
            load.addBoth(self._loaded, host)
            return loaded.wait()
        return self._loading[host][0].wait()

    def _broken(self, failure: Failure, host: str) -> None:
        if not failure.check(CancelledError):
            _log.failure("unexpected, in the robots.txt of {host}", failure, host=host)
        self._cache.put(host, unreachable("its robots.txt could not be read", self._clock.seconds()))

    def _loaded(self, _: None, host: str) -> None:
        self._loading.pop(host)[0].happen()

    async def _load(self, host: str) -> None:
        try:
            rules = await self._fetch(f"{host}/robots.txt")
        except FetchError as error:
            now = self._clock.seconds()
            if error.unreached:
                rules = unreached(error, now)
            else:
                rules = unreachable(f"its robots.txt could not be read: {error}", now, passes=error.retryable)
        self._cache.put(host, rules)
        self.pace(host).crawl_delay_s = rules.crawl_delay_s

    async def _fetch(self, url: str) -> Rules:
        """Raises FetchError: then they are unreachable."""
        for hop in range(ROBOTS_REDIRECTS + 1):
            try:
                answer = await self._fetcher.fetch(url, limit=ROBOTS_BYTES, cut=True)
            except FetchError as error:
                if hop == 0:
                    raise
                # The host was reached; where it sends us is another matter.
                raise FetchError(f"it leads to {url}: {error}", retryable=error.retryable) from None
            if answer.status not in REDIRECTS:
                read = partial(_read, answer.status, answer.chunks, answer.content_encoding, self._clock.seconds())
                return await self._offload.call(read, weight=answer.size)
            target = Base(url).resolve(answer.location)
            if target is None:
                break
            url = target.url
        return open_rules(self._clock.seconds())


def _read(status: int, chunks: list[bytes], content_encoding: str, now: float) -> Rules:
    """In a thread: parsing 500 KiB of rules takes a while."""
    body = bytearray()
    try:
        for piece in pieces(chunks, content_encoding):
            body += piece
            if len(body) >= ROBOTS_BYTES:
                break
    except BrokenCoding:
        pass  # what came before it counts, as with a file that is too long
    return rules_of(status, bytes(body), now)
