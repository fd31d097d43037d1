"""How a crawl begins: with its start page, and with what the robots.txt of the host allows."""

from __future__ import annotations

import gzip
from datetime import datetime
from functools import partial
from typing import Any

from msgd.jobs.interface import State
from msgd.messages import json
from msgd.services.crawler.robots import UNREACHABLE_S, UNREACHED_S
from msgd.services.crawler.visit import TRIES
from tests.ports import free_port
from tests.services.crawler.crawls import CrawlCase, html, redirect
from tests.services.crawler.wild import Answer, Wild


class StartTests(CrawlCase):
    async def test_missing(self) -> None:
        """A start page that is not there fails the crawl, with the reason."""
        await self.open()
        server = await self.serve({})
        job = await self.crawl(f"{server.url}/x", state=State.FAILED)
        assert job.error is not None
        self.assertEqual((job.error.code, job.error.message), ("peer", f"{server.url}/x: status 404"))
        self.assertEqual(self.pages(job.id), {})

    async def test_later(self) -> None:
        """A start page that may come later is tried again later."""
        await self.open()
        server = await self.serve({"/": lambda wild: wild.answer(status="503 Busy")})
        job = await self.submit(f"{server.url}/", match=[{"text": "needle"}])
        await self.world.event(job, "retrying")
        self.assertEqual(server.requests["/"], TRIES)
        server.pages["/"] = html(text="needle")
        await self.world.advance(10)
        await self.world.ended(job)
        self.assertEqual(len(self.found(job)), 1)

    async def test_nobody_there(self) -> None:
        """Where nobody listens it is tried three times, five seconds apart, and then the crawl has failed; with a
        robots.txt to read and without."""
        for robots in (True, False):
            await self.open(robots=robots)
            url = self._nobody()
            job = await self.submit(url)
            await self.world.until(partial(self._failed, job))
            failed = await self.world.ended(job, State.FAILED)
            assert failed.error is not None
            why = f"{url} cannot be reached: connection refused"
            self.assertEqual(failed.error.message, f"{why}, {TRIES} times in a row")
            retrying = {event.id: event for event in self.world.of(job) if event.type == "retrying"}
            self.assertEqual(len(retrying), TRIES - 1)
            for event in retrying.values():
                data = json.decode(event.data, dict[str, Any])
                self.assertEqual(data["message"], why)
                self.assertApproximates(_due_s(data) - event.time_ms / 1000, UNREACHED_S, 0.5)

    async def _failed(self, job: str) -> bool:
        """Whether it has; while it waits for its next attempt, and only then, time passes."""
        found = await self.world.jobs.get(job)
        if found.state is State.QUEUED:
            await self.world.advance(0.1)
        return found.state is State.FAILED

    def _nobody(self) -> str:
        """An address where nobody listens."""
        return f"http://127.0.0.1:{free_port()}/"

    async def test_no_host(self) -> None:
        """A name that no host has fails the crawl at once."""
        await self.open(robots=True)
        job = await self.crawl("http://nobody.invalid/", state=State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.message, "http://nobody.invalid/ cannot be reached: its host was not found")

    async def test_leads_nowhere(self) -> None:
        """A robots.txt that redirects to where nobody is was not read: the site was reached, and is waited for."""
        await self.open(robots=True)
        gone = self._nobody()
        server = await self.serve({"/robots.txt": redirect(f"{gone}robots.txt"), "/": html()})
        event = await self.world.event(await self.submit(f"{server.url}/"), "retrying")
        self.assertIn(f"it leads to {gone}robots.txt: connection refused".encode(), event.data)
        self.assertEqual(server.requests, {"/robots.txt": 1})

    async def test_patience(self) -> None:
        """A page that fails for the moment is tried again before the crawl goes deeper."""
        await self.open()

        def flaky(wild: Wild) -> None:
            if server.requests["/flaky"] < TRIES:
                wild.answer(status="503 Busy")
            else:
                wild.answer(b"<a href=/next>needle")

        server = await self.serve({"/": html("/flaky"), "/flaky": flaky, "/next": html()})
        job = await self.crawl(f"{server.url}/", match=[{"text": "needle"}])
        self.assertEqual(self.found(job.id), {("/flaky", "needle", "needle")})
        self.assertEqual(self.result(job)["errors"], 0)
        self.assertEqual(self.pages(job.id)["/next"]["depth"], 2)


class RobotsTests(CrawlCase):
    async def test_heeded(self) -> None:
        """What robots.txt forbids is not fetched, and counted; it is asked for once."""
        await self.open(robots=True)
        rules = b"User-agent: *\nDisallow: /private\n"
        server = await self.serve(
            {
                "/robots.txt": lambda wild: wild.answer(rules, content_type="text/plain"),
                "/": html("/private/a", "/private/b", "/open"),
                "/open": html("/private/a"),
                "/private/a": html(),
            }
        )
        job = await self.crawl(f"{server.url}/")
        self.assertEqual(server.requests, {"/robots.txt": 1, "/": 1, "/open": 1})
        self.assertEqual((self.result(job)["pages"], self.result(job)["skipped"]), (2, 2))

    async def test_start_forbidden(self) -> None:
        """A start page that robots.txt forbids fails the crawl, with the reason."""
        await self.open(robots=True)
        server = await self.serve(
            {"/robots.txt": lambda wild: wild.answer(b"User-agent: *\nDisallow: /\n"), "/": html()}
        )
        job = await self.crawl(f"{server.url}/", state=State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.code, "robots")
        self.assertEqual(server.requests, {"/robots.txt": 1})

    async def test_none(self) -> None:
        """A host without robots.txt forbids nothing."""
        await self.open(robots=True)
        server = await self.serve({"/": html()})
        await self.crawl(f"{server.url}/")
        self.assertEqual(server.requests, {"/robots.txt": 1, "/": 1})

    async def test_unreachable(self) -> None:
        """While robots.txt cannot be had nothing is fetched; the crawl is tried again."""
        await self.open(robots=True)
        server = await self.serve({"/robots.txt": lambda wild: wild.answer(status="503 Busy"), "/": html()})
        job = await self.submit(f"{server.url}/")
        event = await self.world.event(job, "retrying")
        self.assertIn(b"robots.txt", event.data)
        # Before its answer has lapsed another attempt would find it again, and be wasted.
        due_s = _due_s(json.decode(event.data, dict[str, Any]))
        self.assertApproximates(due_s - event.time_ms / 1000, UNREACHABLE_S, 2.0)
        self.assertEqual(server.requests, {"/robots.txt": 1})

    async def test_redirected(self) -> None:
        """robots.txt may be elsewhere: five redirects are followed."""
        await self.open(robots=True)
        pages: dict[str, Answer] = {f"/r{n}": redirect(f"/r{n + 1}") for n in range(1, 5)}
        pages["/robots.txt"] = redirect("/r1")
        pages["/r5"] = lambda wild: wild.answer(
            gzip.compress(b"User-agent: msgd\nDisallow: /x\n"), Content_Encoding="gzip"
        )
        server = await self.serve({"/": html("/x"), **pages})
        job = await self.crawl(f"{server.url}/")
        self.assertEqual(self.result(job)["skipped"], 1)
        self.assertNotIn("/x", server.requests)

    async def test_crawl_delay(self) -> None:
        """The delay that robots.txt asks for is kept, also by a crawl that wants none."""
        times = self.begins()
        await self.open(robots=True)
        rules = b"User-agent: *\nCrawl-delay: 0.2\n"
        server = await self.serve({"/robots.txt": lambda wild: wild.answer(rules), "/": html("/b"), "/b": html()})
        await self.crawl(f"{server.url}/")
        self.assertEqual(server.requests, {"/robots.txt": 1, "/": 1, "/b": 1})
        self.assertGreaterEqual(times[-1] - times[-2], 0.2 - 1e-6)


def _due_s(retrying: dict[str, Any]) -> float:
    """When the next attempt is due, by the data of a ``retrying`` event."""
    return datetime.fromisoformat(retrying["at"]).timestamp()
