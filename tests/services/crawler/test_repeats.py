"""A crawl gives the same, however many requests are under way, in slices, and whenever its process dies."""

from __future__ import annotations

import random
from typing import Any, Final

from twisted.internet.defer import Deferred

from msgd.jobs.interface import Job, State
from msgd.services.crawler import crawl as crawling
from tests.services.crawler.crawls import CrawlCase, Died, Stumbles, Stumbling, html, redirect
from tests.services.crawler.wild import Answer, Wild, WildServer, reactor

PAGES: Final = 40
MATCH: Final = [{"name": "number", "regex": r"number (\d+)"}, {"name": "link", "css": "a", "attr": "href"}]


def random_site(seed: int) -> dict[str, Answer]:
    """Pages that link to one another at random, some behind redirects, some missing, answered after random times."""
    rng = random.Random(seed)

    def delayed(answer: Answer) -> Answer:
        def later(wild: Wild) -> None:
            reactor.callLater(rng.random() * 0.01, answer, wild)

        return later

    def target() -> str:
        number = rng.randrange(PAGES + 3)
        return rng.choice([f"/{number}", f"/{number}", f"/to{number}", f"/q?a={number}&b=1", f"/q?b=1&a={number}"])

    pages: dict[str, Answer] = {}
    for number in range(PAGES):
        links = [target() for _ in range(rng.randrange(6))]
        pages[f"/{number}"] = delayed(html(*links, text=f"number {number} number {number % 7}", title=f"T{number}"))
        pages[f"/to{number}"] = delayed(redirect(f"/{number}"))
        for query in (f"a={number}&b=1", f"b=1&a={number}"):
            pages[f"/q?{query}"] = delayed(html(f"/{number}", text=f"number {number}"))
    pages["/"] = html("/0", "/1", "/2", "/to3", "/missing")
    return pages


class RepeatCase(CrawlCase):
    def facts(self, job: Job) -> tuple[list[Any], list[Any], dict[str, Any]]:
        """All that must be the same in every crawl of a site; not how long it took."""
        pages = sorted(
            (path, page["status"], page["depth"], page["matches"], page.get("error"))
            for path, page in self.pages(job.id).items()
        )
        results = sorted(
            (one["url"], one["title"], one["name"], one["value"], one["context"])
            for one in self.events(job.id, "result")
        )
        counts = self.result(job)
        del counts["seconds"]
        return pages, results, counts


class DeterminismTests(RepeatCase):
    async def test_concurrency(self) -> None:
        """The same pages at the same depths with the same results, one at a time or sixteen."""
        await self.open()
        for seed in (1, 2, 3):
            server = await self.serve(random_site(seed))
            one = self.facts(await self.crawl(f"{server.url}/", match=MATCH, depth=6, concurrency=1))
            many = self.facts(await self.crawl(f"{server.url}/", match=MATCH, depth=6, concurrency=16))
            self.assertGreater(len(one[0]), 10)
            self.assertEqual(one, many)

    async def test_slices(self) -> None:
        """The same in many slices: a crawl is handed on in the middle, and nothing is lost, or visited for nothing."""
        await self.open(slice_s=20.0)
        server = await self.serve(random_site(4))
        whole = self.facts(await self.crawl(f"{server.url}/", match=MATCH, depth=6))
        before, requests = self.performer.performed, server.requests.copy()
        job = await self.submit(f"{server.url}/", match=MATCH, depth=6, concurrency=2)
        while self.performer.performed < before + 6 and "done" not in self.world.types(job):
            await _pause(0.03)
            self.world.clock.advance(20)
        ended = await self.world.ended(job)
        self.assertEqual(self.facts(ended), whole)
        self.assertGreaterEqual(self.performer.performed, before + 3)
        self.assertEqual(server.requests - requests, requests)


class DeathTests(RepeatCase):
    async def crawl_dying(self, server: WildServer, at: list[int], **params: Any) -> tuple[Job, Stumbles]:
        stumbles = Stumbles(at)
        self.performer.around = lambda context: Stumbling(context, stumbles)
        job = await self.submit(f"{server.url}/", match=MATCH, depth=6, **params)
        await self.world.until(lambda: self.has_ended(job), passing_s=1.0)
        self.performer.around = lambda context: context
        ended = await self.world.ended(job, State.DONE)
        self.flushLoggedErrors(Died)
        return ended, stumbles

    async def has_ended(self, job: str) -> bool:
        await _pause(0.001)
        return "done" in self.world.types(job)

    async def test_anywhere(self) -> None:
        """The same when it dies before or after any event or checkpoint: nothing is lost, nothing counts twice."""
        self.patch(crawling, "SAVE_PAGES", 5)
        await self.open()
        server = await self.serve(random_site(5))
        whole = self.facts(await self.crawl(f"{server.url}/", match=MATCH, depth=6))
        rng = random.Random(6)
        deaths: set[str] = set()
        for _ in range(12):
            job, stumbles = await self.crawl_dying(server, sorted(rng.sample(range(1, 500), 6)), concurrency=4)
            self.assertEqual(self.facts(job), whole)
            deaths.update(stumbles.died)
        self.assertEqual(deaths, {"before emit", "after emit", "before checkpoint", "after checkpoint"})

    async def test_max_pages(self) -> None:
        """max_pages is exact also then: what was told before the death is among what is told after it."""
        self.patch(crawling, "SAVE_PAGES", 5)
        await self.open()
        pages: dict[str, Answer] = {f"/{n}": html() if n % 3 else redirect(f"/to{n}") for n in range(60)}
        pages |= {f"/to{n}": html() for n in range(60)}
        server = await self.serve({"/": html(*(f"/{n}" for n in range(60))), **pages})
        rng = random.Random(7)
        for _ in range(8):
            job, _ = await self.crawl_dying(server, sorted(rng.sample(range(1, 120), 5)), max_pages=25, concurrency=8)
            told = [page for page in self.pages(job.id).values() if page["status"] == 200]
            self.assertEqual((len(told), self.result(job)["pages"]), (25, 25))


def _pause(seconds: float) -> Deferred[None]:
    paused: Deferred[None] = Deferred()
    reactor.callLater(seconds, paused.callback, None)
    return paused
