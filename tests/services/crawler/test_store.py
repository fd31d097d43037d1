"""The frontier in the database, on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.jobs.interface import Submission
from msgd.jobs.sql import SqlJobs
from msgd.services.crawler.frontier import PAGE, SITEMAP, Entry, Link, level_of
from msgd.services.crawler.store import Batch, Counts, Crawl, Wanted, forget, open_crawl, save
from msgd.services.crawler.tables import crawl_urls, crawls
from msgd.services.crawler.urls import address
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

NOTHING = Batch()
ALL = Wanted(level=0, after=-1, limit=100, next_level=True)


def link(path: str, depth: int = 1, hops: int = 0, kind: int = PAGE) -> Link:
    found = address(f"http://a.example{path}")
    assert found is not None
    return Link(found, level_of(depth, hops), kind)


class StoreCases(_TestCase):
    timeout = 180

    def url(self) -> str:
        raise NotImplementedError

    async def begin(self) -> Crawl:
        """A crawl with its start page."""
        self.database = Database(self.url(), reactor=reactor)
        await self.database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        self.jobs = SqlJobs(self.database, clock=reactor, post=lambda _: None)
        self.job = (await self.jobs.submit(Submission(type="crawl", params=b"{}"))).job.id
        return await self.open()

    async def open(self, run: int = 1) -> Crawl:
        start = link("/").address
        return await self.database.write(lambda tx: open_crawl(tx, self.job, run, start, "a.example", 1000))

    async def save(self, crawl: Crawl, batch: Batch = NOTHING, wanted: Wanted = ALL) -> tuple[Crawl, list[Entry]]:
        saved = await self.database.write(lambda tx: save(tx, crawl, batch, wanted))
        return saved.crawl, list(saved.entries)

    async def test_begin(self) -> None:
        """A new crawl has its start page to fetch."""
        crawl = await self.begin()
        self.assertEqual((crawl.sites, crawl.known, crawl.queued, crawl.counts), (["a.example"], 1, 1, Counts()))
        self.assertEqual((await self.save(crawl))[1], [Entry(0, "http://a.example/", 0)])

    async def test_goes_on(self) -> None:
        """A crawl that is opened again is as it was saved."""
        crawl = await self.begin()
        batch = Batch(done=[0], links=[link("/x")], counts=Counts(1, 0, 2, 3, 4, 5), sites=["a.example", "b.example"])
        crawl, entries = await self.save(crawl, batch)
        self.assertEqual([entry.url for entry in entries], ["http://a.example/x"])
        self.assertEqual(await self.open(), crawl)
        self.assertEqual((crawl.counts, crawl.known, crawl.queued), (Counts(1, 0, 2, 3, 4, 5), 2, 1))

    async def test_once(self) -> None:
        """A page that is known already is not added again, whoever found it, and is not counted."""
        crawl = await self.begin()
        links = [link("/x"), link("/"), link("/y?a=1&b=2"), link("/x", depth=2)]
        crawl, entries = await self.save(crawl, Batch(done=[0], links=links))
        self.assertEqual([entry.url for entry in entries], ["http://a.example/x", "http://a.example/y?a=1&b=2"])
        self.assertEqual(crawl.known, 3)
        crawl, entries = await self.save(crawl, Batch(links=[link("/y?b=2&a=1", depth=2)]))
        self.assertEqual((crawl.known, [entry.depth for entry in entries]), (3, [1, 1]))

    async def test_order_of_arguments(self) -> None:
        """Of the spellings of one page found on the same level the least is fetched, whichever came first."""
        crawl = await self.begin()
        crawl, _ = await self.save(crawl, Batch(links=[link("/y?b=2&a=1"), link("/z?a=1&b=2")]))
        crawl, _ = await self.save(crawl, Batch(done=[0], links=[link("/y?a=1&b=2"), link("/z?b=2&a=1")]))
        _, entries = await self.save(crawl)
        self.assertEqual([entry.url for entry in entries], ["http://a.example/y?a=1&b=2", "http://a.example/z?a=1&b=2"])

    async def test_lower_level(self) -> None:
        """A page that a redirect leads to is as deep as the redirect, also if a deeper link to it was seen before."""
        crawl = await self.begin()
        crawl, _ = await self.save(crawl, Batch(links=[link("/x", depth=1), link("/y", depth=0, hops=1)]))
        links = [link("/x", depth=0, hops=1), link("/y", depth=1), link("/x", depth=0, hops=2)]
        crawl, entries = await self.save(crawl, Batch(done=[0], links=links))
        self.assertEqual([entry.level for entry in entries], [level_of(0, 1), level_of(0, 1)])
        self.assertEqual(crawl.known, 3)

    async def test_levels(self) -> None:
        """The entries of the lowest level come first, in their order; a higher one only when it is asked for."""
        crawl = await self.begin()
        links = [link("/deep", depth=2), link("/b"), link("/a"), link("/moved", depth=0, hops=1)]
        crawl, entries = await self.save(crawl, Batch(done=[0], links=links), Wanted(0, 0, 100, next_level=False))
        self.assertEqual(entries, [])
        order = []
        wanted = Wanted(0, 0, 1, next_level=True)
        while True:
            crawl, entries = await self.save(crawl, wanted=wanted)
            if not entries:
                break
            order.append(entries[0].url.removeprefix("http://a.example"))
            crawl, _ = await self.save(crawl, Batch(done=[entries[0].n]), Wanted(0, 0, 0, next_level=False))
            wanted = Wanted(entries[0].level, entries[0].n, 1, next_level=True)
        self.assertEqual(order, ["/moved", "/b", "/a", "/deep"])

    async def test_tries(self) -> None:
        """Failed tries are remembered; the entry stays to be fetched."""
        crawl = await self.begin()
        crawl, entries = await self.save(crawl, Batch(tries=[(0, 2)]))
        self.assertEqual([(entry.n, entry.tries) for entry in entries], [(0, 2)])
        self.assertEqual(crawl.queued, 1)

    async def test_kinds(self) -> None:
        """Sitemaps are entries of their own kind."""
        crawl = await self.begin()
        _, entries = await self.save(crawl, Batch(done=[0], links=[link("/sitemap.xml", 0, 1, SITEMAP)]))
        self.assertEqual([(entry.kind, entry.depth, entry.hops) for entry in entries], [(SITEMAP, 0, 1)])

    async def test_sitemap_and_page(self) -> None:
        """A sitemap that pages link to is both."""
        crawl = await self.begin()
        links = [link("/sitemap.xml"), link("/sitemap.xml", 0, 1, SITEMAP)]
        crawl, _ = await self.save(crawl, Batch(done=[0], links=links))
        self.assertEqual(crawl.queued, 2)

    async def test_runs(self) -> None:
        """Running a job again begins anew, and what the earlier run left is deleted."""
        crawl = await self.begin()
        await self.save(crawl, Batch(done=[0], links=[link("/x")]))
        again = await self.open(run=2)
        self.assertEqual((again.known, again.counts), (1, Counts()))
        self.assertEqual(await self.database.read(_rows), (1, 1))

    async def test_forget(self) -> None:
        """A crawl that has ended leaves nothing."""
        crawl = await self.begin()
        crawl, _ = await self.save(crawl, Batch(links=[link("/x")]))
        await self.database.write(lambda tx: forget(tx, crawl))
        self.assertEqual(await self.database.read(_rows), (0, 0))

    async def test_purged(self) -> None:
        """A purged job takes its frontier with it."""
        await self.begin()
        await self.jobs.cancel(self.job)
        await self.database.write(lambda tx: tx.exec_driver_sql("UPDATE jobs SET recorded = true, ended_ms = 1"))
        purged = await self.jobs.purge(2**40)
        self.assertEqual((list(purged), await self.database.read(_rows)), ([self.job], (0, 0)))


def _rows(transaction: Transaction) -> tuple[int, int]:
    return (len(transaction.execute(select(crawls.c.id)).all()), len(transaction.execute(select(crawl_urls.c.n)).all()))


class SQLiteStoreTests(StoreCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute()}.sqlite3"


class PostgreSQLStoreTests(StoreCases, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)
