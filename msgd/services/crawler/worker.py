"""The crawler as a worker: what the crawls of a process share, and a slice for each claim."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from msgd.services.crawler.crawl import Crawling, Means
from msgd.services.crawler.fetch import ANSWER_S, BODY_S, Fetcher
from msgd.services.crawler.hosts import Hosts
from msgd.services.crawler.offload import Offload
from msgd.services.crawler.params import CRAWL, CrawlParams
from msgd.work.interface import Context, Outcome
from msgd.work.network import GuardedEndpoints, Reach

THREADS: Final = 2
"""That read pages: lxml and regex let go of the interpreter lock, so a second one helps where there are cores."""


class Crawler:
    """Performs ``crawl`` jobs. Conforms to :class:`~msgd.work.interface.Worker`."""

    type = CRAWL

    def __init__(
        self,
        reactor: Any,
        reach: Reach,
        *,
        robots: bool = True,
        contact: str = "",
        threads: int = THREADS,
        answer_s: float = ANSWER_S,
        body_s: float = BODY_S,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``reach``: which addresses may be dialled; ``robots``: whether robots.txt is heeded; ``contact``: an address
        or URL for the User-Agent; ``answer_s`` and ``body_s``: how long an answer and its body may take."""
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name="crawler")
        endpoints = GuardedEndpoints(reactor, reach)
        fetcher = Fetcher(reactor, endpoints, contact=contact, answer_s=answer_s, body_s=body_s)
        offload = Offload(partial(deferToThreadPool, reactor, self._pool), threads=threads)
        hosts = Hosts(fetcher, offload, reactor, robots=robots)
        self._means = Means(fetcher, offload, hosts, reactor, now_ms)

    async def start(self) -> None:
        """Start the threads."""
        if not self._pool.started:
            self._pool.start()

    async def stop(self) -> None:
        """Close the connections that are kept, end the threads."""
        self._means.hosts.stop()
        await self._means.fetcher.stop()
        if self._pool.started:
            self._pool.stop()

    async def perform(self, context: Context[CrawlParams]) -> Outcome:
        """One slice of a crawl."""
        return await Crawling(context, self._means).run()
