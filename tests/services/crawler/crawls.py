"""Crawls of servers on loopback, through the worker runtime, on the embedded broker and SQLite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.jobs.interface import Job, State
from msgd.messages import json
from msgd.messages.events import Event
from msgd.services.crawler.params import CRAWL, CrawlParams
from msgd.services.crawler.politeness import Delay, Pace
from msgd.services.crawler.worker import Crawler
from msgd.work.interface import Context, Outcome
from msgd.work.network import Reach, parse_networks
from tests.services.crawler.wild import Answer, Wild, WildServer, reactor
from tests.work.world import World

LOOPBACK = Reach(parse_networks(["127.0.0.0/8"]))


def html(*links: str, text: str = "", title: str = "") -> Answer:
    """A page with these links."""
    anchors = "".join(f'<a href="{link}">link</a> ' for link in links)
    body = f"<!doctype html><title>{title}</title><p>{text}</p>{anchors}".encode()
    return lambda wild: wild.answer(body)


def redirect(to: str, status: str = "301 Moved") -> Answer:
    return lambda wild: wild.answer(status=status, Location=to)


class CrawlCase(TestCase):
    """A world with a crawler in it."""

    timeout = 180

    async def open(self, *, reach: Reach = LOOPBACK, slice_s: float = 1000.0, **options: Any) -> None:
        """``options``: of the crawler."""
        folder = self._folder()
        self.world = World(
            f"sqlite:///{folder}/msgd.sqlite3", lambda: EmbeddedBroker(folder / "broker.sqlite3", reactor=reactor)
        )
        await self.world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.close()))
        options = {"robots": False, "answer_s": 30.0, "body_s": 30.0, **options}
        self.crawler = Crawler(reactor, reach, **options)
        self.performer = Performer(self.crawler)
        await self.world.runner(self.performer, slice_s=slice_s, attempts=20)

    def _folder(self) -> Path:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    async def serve(self, pages: dict[str, Answer]) -> WildServer:
        server = WildServer()
        server.pages.update(pages)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    def begins(self) -> list[float]:
        """When requests begin, by the crawler's clock: they arrive when this process comes to it."""
        times: list[float] = []
        started = Pace.started

        def starting(pace: Pace, now: float, delay: Delay) -> None:
            times.append(now)
            started(pace, now, delay)

        self.patch(Pace, "started", starting)
        return times

    async def submit(self, url: str, **params: Any) -> str:
        """The id of a new crawl, without delays unless it says otherwise."""
        return await self.world.submit("crawl", {"url": url, "delay": 0, "sitemap": False, **params})

    async def crawl(self, url: str, *, state: State = State.DONE, **params: Any) -> Job:
        """A crawl that has ended."""
        return await self.world.ended(await self.submit(url, **params), state)

    # -- what came of it -----------------------------------------------------------------------------------------------

    def events(self, job: str, type_: str) -> list[dict[str, Any]]:
        """The data of the events of a type, in order, as the journal would keep them: each id once."""
        kept: dict[str, Event] = {}
        for event in self.world.of(job):
            if event.type == type_:
                kept.setdefault(event.id, event)
        return [msgspec.json.decode(event.data) for event in kept.values()]

    def pages(self, job: str) -> dict[str, dict[str, Any]]:
        """The pages by path."""
        return {_path(page["url"]): page for page in self.events(job, "page")}

    def found(self, job: str) -> set[tuple[str, str, str]]:
        """(path, name, value) of all results."""
        return {(_path(one["url"]), one["name"], one["value"]) for one in self.events(job, "result")}

    def result(self, job: Job) -> dict[str, Any]:
        assert job.result is not None
        result: dict[str, Any] = json.decode(job.result, dict[str, Any])
        return result


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]


class Performer:
    """The crawler, with something in between that a test may set: ``around`` makes a context out of a context."""

    type = CRAWL

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self.around: Callable[[Any], Any] = lambda context: context
        self.performed = 0

    async def start(self) -> None:
        await self._crawler.start()

    async def stop(self) -> None:
        await self._crawler.stop()

    def perform(self, context: Context[CrawlParams]) -> Awaitable[Outcome]:
        self.performed += 1
        return self._crawler.perform(self.around(context))


class Stumbling:
    """A context whose process dies, as far as the crawl can tell, at given steps: before or after they take effect.

    A step is an event or a checkpoint; ``steps`` counts them over all contexts made with the same :class:`Stumbles`.
    """

    def __init__(self, context: Any, stumbles: Stumbles) -> None:
        self._context = context
        self._stumbles = stumbles

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def emit(self, type_: str, data: Any, *, key: str = "") -> Any:
        self._stumbles.step("before emit")
        emitted = self._context.emit(type_, data, key=key)
        self._stumbles.step("after emit")
        return emitted

    async def checkpoint(self, write: Any, *, confirmed: bool = False) -> Any:
        self._stumbles.step("before checkpoint")
        written = await self._context.checkpoint(write)
        self._stumbles.step("after checkpoint")
        return written


class Stumbles:
    """When to die: at the numbers in ``at``."""

    def __init__(self, at: Iterable[int]) -> None:
        self._at = set(at)
        self.steps = 0
        self.died: list[str] = []

    def step(self, what: str) -> None:
        self.steps += 1
        if self.steps in self._at:
            self.died.append(what)
            raise Died(what)


class Died(Exception):
    """The process is gone."""


__all__ = ["CrawlCase", "Died", "Performer", "Stumbles", "Stumbling", "Wild", "html", "redirect"]
