"""One visit to one entry of the frontier: fetch, read, and say in values what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct

from msgd.services.crawler.coding import BrokenCoding, TooBig, decoded
from msgd.services.crawler.criteria import Criterion, Found
from msgd.services.crawler.fetch import PAGE_BYTES, REDIRECTS, RETRYABLE, Answer, Fetcher, FetchError
from msgd.services.crawler.frontier import HOPS, PAGE, SITEMAP, Entry, Link, level_of
from msgd.services.crawler.frontier import REDIRECTS as MOST_REDIRECTS
from msgd.services.crawler.offload import Offload
from msgd.services.crawler.page import Reading, is_readable, read_page
from msgd.services.crawler.politeness import RETRY_AFTER_S, Delay, Pace
from msgd.services.crawler.scope import Scope
from msgd.services.crawler.sitemap import SITEMAP_BYTES, Sitemap, read_sitemap
from msgd.services.crawler.urls import Address, Base, address, site_of

TRIES: Final = 3
"""For a page that may come later (a lost connection, 503): what fails three times in a row stays an error."""


class PageEvent(Struct, frozen=True):
    """The data of a ``page`` event (DESIGN §4.2)."""

    url: str
    status: int | None
    depth: int
    bytes: int
    ms: int
    matches: int
    error: str | None


class ResultEvent(Struct, frozen=True):
    """The data of a ``result`` event."""

    url: str
    title: str
    name: str
    value: str
    context: str


class Plan(Struct, frozen=True):
    """What a visit is to do: the same for all visits of a slice, but for the scope of a start that redirects."""

    depth: int
    delay: Delay
    criteria: Sequence[Criterion]
    scope: Scope
    sitemap: bool


class Visited(Struct, frozen=True):
    """What came of a visit."""

    page: PageEvent | None = None  # None: a sitemap, or to be tried again
    results: Sequence[ResultEvent] = ()
    links: Sequence[Link] = ()
    redirect: bool = False
    site: str = ""  # where a redirect of the start page led
    again: bool = False  # it may come later
    failure: FetchError | None = None  # why there is no page: of the start page, it ends the crawl
    bytes: int = 0


async def visit(
    entry: Entry,
    plan: Plan,
    fetcher: Fetcher,
    offload: Offload,
    pace: Pace,
    sitemaps: Sequence[str],
    now: Any,
    *,
    fetched: Callable[[], None],
) -> Visited:
    """Visit one entry. ``pace``: is told how it went; ``sitemaps``: that the host's robots.txt names; ``now``: the
    clock's seconds; ``fetched``: is called when the answer is there, which takes a while to read."""
    limit = PAGE_BYTES if entry.kind == PAGE else SITEMAP_BYTES
    try:
        answer = await fetcher.fetch(entry.url, limit=limit, wants=is_readable if entry.kind == PAGE else None)
    except FetchError as error:
        pace.answered(now(), 0.0, status=error.status, retry_after_s=None, delay=plan.delay)
        return _failed(entry, error)
    pace.answered(now(), answer.answered_s, status=answer.status, retry_after_s=answer.retry_after_s, delay=plan.delay)
    if answer.status in REDIRECTS:
        return _redirected(entry, answer, plan)
    if not 200 <= answer.status < 300:
        patience = (answer.retry_after_s or 0.0) <= RETRY_AFTER_S
        may_pass = answer.status in RETRYABLE and patience
        return _failed(entry, FetchError(f"status {answer.status}", retryable=may_pass, status=answer.status), answer)
    fetched()
    if entry.kind == SITEMAP:
        return await _sitemap(entry, answer, plan, offload)
    work = partial(_read, entry, answer, plan)
    try:
        reading = await offload.call(work, weight=answer.size)
    except (BrokenCoding, TooBig) as error:
        return _failed(entry, FetchError(str(error), retryable=False, status=answer.status), answer)
    level = level_of(entry.depth + 1)
    links = [Link(link, level) for link in reading.links]
    if entry.depth == 0 and plan.sitemap and plan.depth > 0:
        links += _sitemap_links(entry, sitemaps)
    return Visited(
        page=_event(entry, answer, matches=len(reading.found), error="; ".join(reading.problems) or None),
        results=[_result(entry.url, reading.title, found) for found in reading.found],
        links=links,
        bytes=answer.size,
    )


# -- pages -------------------------------------------------------------------------------------------------------------


def _read(entry: Entry, answer: Answer, plan: Plan) -> Reading:
    """In a thread. Raises BrokenCoding or TooBig."""
    return read_page(
        decoded(answer.chunks, answer.content_encoding, PAGE_BYTES),
        entry.url,
        content_type=answer.content_type,
        robots_tag=answer.robots_tag,
        scope=plan.scope if entry.depth < plan.depth else None,
        criteria=plan.criteria,
    )


def _event(entry: Entry, answer: Answer | None, *, matches: int = 0, error: str | None = None) -> PageEvent:
    if answer is None:
        return PageEvent(entry.url, None, entry.depth, 0, 0, matches, error)
    return PageEvent(entry.url, answer.status, entry.depth, answer.size, round(answer.took_s * 1000), matches, error)


def _result(url: str, title: str, found: Found) -> ResultEvent:
    return ResultEvent(url, title, found.name, found.value, found.context)


def _failed(entry: Entry, error: FetchError, answer: Answer | None = None) -> Visited:
    if error.retryable and entry.tries + 1 < TRIES:
        return Visited(again=True)
    if entry.kind == SITEMAP:  # most sites have none
        return Visited()
    page = _event(entry, answer, error=str(error))
    if answer is None and error.status:
        page = PageEvent(entry.url, error.status, entry.depth, 0, 0, 0, str(error))
    return Visited(page=page, failure=error)


def _redirected(entry: Entry, answer: Answer, plan: Plan) -> Visited:
    """A redirect is a link that leads to the same depth: what it leads to is one page, however it was come by."""
    target = Base(entry.url).resolve(answer.location) if answer.location else None
    problem = ""
    if target is None:
        problem = f"redirects to {answer.location[:200]!r}, which is no page"
    elif _is(target, entry):
        problem = "redirects to itself"
    elif entry.hops >= MOST_REDIRECTS:
        problem = f"more than {MOST_REDIRECTS} redirects"
    elif entry.kind == PAGE and entry.depth > 0 and not plan.scope.admits(target):
        problem = f"redirects to {target.url}, which is outside this crawl"
    if problem or target is None:
        return _failed(entry, FetchError(problem, retryable=False, status=answer.status), answer)
    return Visited(
        page=_event(entry, answer) if entry.kind == PAGE else None,
        links=[Link(target, entry.level + 1, entry.kind)],
        redirect=True,
        site=site_of(target.url) if entry.depth == 0 and entry.kind == PAGE else "",
    )


def _is(target: Address, entry: Entry) -> bool:
    """Whether they are the same page: also if only the order of the arguments differs, for it would not be fetched."""
    own = address(entry.url)
    return own is not None and own.key == target.key


# -- sitemaps ----------------------------------------------------------------------------------------------------------


def _sitemap_links(entry: Entry, named: Sequence[str]) -> list[Link]:
    """The sitemaps that robots.txt names, and the usual place."""
    base = Base(entry.url)
    found: list[Address | None] = [address(url) for url in named]
    found.append(base.resolve("/sitemap.xml"))
    return [Link(one, entry.level + 1, SITEMAP) for one in found if one is not None]


async def _sitemap(entry: Entry, answer: Answer, plan: Plan, offload: Offload) -> Visited:
    """Its pages are as deep as the links of the start page; further sitemaps come before them."""

    def read() -> tuple[Sitemap, list[Address]]:
        sitemap = read_sitemap(answer.chunks, entry.url, content_encoding=answer.content_encoding)
        return sitemap, [page for page in sitemap.pages if plan.scope.admits(page)]

    try:
        sitemap, pages = await offload.call(read, weight=answer.size)
    except BrokenCoding:
        return Visited()
    links = [Link(page, level_of(1)) for page in pages]
    if entry.hops + 1 < HOPS:
        links += [Link(one, entry.level + 1, SITEMAP) for one in sitemap.sitemaps]
    return Visited(links=links, bytes=answer.size)
