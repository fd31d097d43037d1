"""One slice of one crawl: visits under way, their events on the way to the journal, and the state saved after them.

Three things go on at once: visits, of which up to ``concurrency`` wait for their answers; the events of visits that
have ended, emitted at once; and a save of what has ended and is emitted. A save awaits the confirms of its events and
then marks its pages as done, adds their links and brings the next entries, in one transaction. Killed in between, the
crawl repeats what was not saved, and the events of a repeat have the ids of the first time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import Clock
from msgd.messages import json
from msgd.services.crawler.alarm import Alarm
from msgd.services.crawler.fetch import Fetcher, FetchError
from msgd.services.crawler.frontier import PAGE, Entry, Ready
from msgd.services.crawler.hosts import Hosts
from msgd.services.crawler.offload import Offload
from msgd.services.crawler.params import CrawlParams
from msgd.services.crawler.robots import UNREACHED_S, Rules
from msgd.services.crawler.scope import Scope
from msgd.services.crawler.store import Wanted, forget, open_crawl, save
from msgd.services.crawler.tally import Ended, Tally, most_known
from msgd.services.crawler.urls import site_of
from msgd.services.crawler.visit import TRIES, PageEvent, Plan, Visited, visit
from msgd.work.interface import Context, Continue, Done, Failed, Outcome, Retry

_log = Logger()

IN_HAND: Final = 500
"""Entries taken from the database ahead of their visits: enough for the fastest site between two saves."""

UNSAVED: Final = 500
"""Visits ended and not saved at which no further one begins: a crash repeats no more than these."""

READING: Final = 8
"""Pages read while as many as may be are fetched: so the threads always have some at hand, and no request waits for
them. Few, as each may have 10 MiB."""

SAVE_PAGES: Final = 50
SAVE_S: Final = 0.1
"""A save is due after so many pages, or so long after the last one: rows appear at once, commits stay few."""

PATIENCE_S: Final = 5.0
"""How long visits under way are waited for when the slice is over; half of the grace that a stop has."""


class Means(Struct, frozen=True):
    """What the crawls of a process share."""

    fetcher: Fetcher
    offload: Offload
    hosts: Hosts
    clock: Clock
    now_ms: Callable[[], int]


class Crawling:
    """A slice of a crawl. Call :meth:`run` once."""

    def __init__(self, context: Context[CrawlParams], means: Means) -> None:
        self._context = context
        self._means = means
        self._params = context.params
        self._criteria = self._params.criteria()
        self._ready = Ready()
        self._visits: dict[int, tuple[Entry, float, Deferred[None]]] = {}  # by n: when begun, and the visit
        self._fetching = 0  # visits whose answers are awaited
        self._loading: dict[str, Deferred[None]] = {}  # hosts whose robots.txt is awaited
        self._ended: list[Ended] = []
        self._emitted: list[Deferred[None]] = []
        self._level = 0
        self._after = -1
        self._stopping = False
        self._outcome: Outcome | None = None
        self._error: Failure | None = None
        self._alarm = Alarm(means.clock)
        self._began = means.clock.seconds()
        self._saved_at = self._began

    async def run(self) -> Outcome:
        """Crawl until the slice is over or there is nothing left to do."""
        start, job, now_ms = self._params.start, self._context.job, self._means.now_ms()
        self._crawl = await self._context.checkpoint(
            partial(open_crawl, job=job.id, run=job.run, start=start, site=site_of(start.url), now_ms=now_ms)
        )
        self._first = self._crawl.counts
        self._tally = Tally(self._crawl.sites)
        self._plan_for(self._crawl.sites)
        over = self._context.over()
        over.addCallback(lambda _: self._stop(Continue())).addErrback(_ignore_cancel)
        if self._params.max_seconds is not None:
            left = self._crawl.started_ms / 1000 + self._params.max_seconds - self._means.now_ms() / 1000
            self._alarm.call_later("max_seconds", max(0.0, left), lambda: self._stop(self._done("max_seconds")))
        try:
            await self._go_on()
            await self._finish_visits()
            if self._error is not None:
                self._error.raiseException()
        finally:
            over.cancel()
            self._abandon()
        if self._outcome is None:
            return self._done("complete" if self._crawl.queued == 0 else "max_pages")
        if isinstance(self._outcome, Done):  # its numbers are those of the last save
            return self._done("max_seconds")
        return self._outcome

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Visit and save until told to stop, or until nothing is left."""
        await self._save()
        while not self._stopping:
            self._launch()
            if self._save_is_due():
                await self._save()
            elif not self._ready and not self._visits and not self._ended:
                return  # the last save found nothing more
            else:
                await self._alarm.ring()

    async def _finish_visits(self) -> None:
        """Wait a little for the visits under way, then save what there is."""
        until = self._means.clock.seconds() + PATIENCE_S
        self._alarm.call_later("patience", PATIENCE_S, self._alarm.wake)
        while self._visits and self._means.clock.seconds() < until and not self._is_final() and self._error is None:
            await self._alarm.ring()
        for entry, began, _ in self._visits.values():
            if self._means.clock.seconds() - began >= PATIENCE_S and entry.kind == PAGE and not self._is_final():
                self._ended.append((entry, self._too_slow(entry)))
        self._abandon()
        if self._error is None and not isinstance(self._outcome, Retry | Failed):
            await self._save()

    def _is_final(self) -> bool:
        """Whether the crawl ends with this slice, so that visits under way are of no more use."""
        return self._outcome is not None and not isinstance(self._outcome, Continue)

    def _too_slow(self, entry: Entry) -> Visited:
        """A visit that the end of the slice cuts off begins anew in the next one, but not for ever."""
        if entry.tries + 1 < TRIES:
            return Visited(again=True)
        error = f"slower than a slice, {TRIES} times"
        if entry.depth == 0:
            self._outcome = Failed("peer", f"{entry.url}: {error}")
        page = PageEvent(entry.url, None, entry.depth, 0, 0, 0, error)
        visited = Visited(page=page, failure=FetchError(error, retryable=False))
        self._emit(visited)
        return visited

    def _save_is_due(self) -> bool:
        ended = len(self._ended)
        if not ended:
            return False
        return (
            ended >= SAVE_PAGES
            or len(self._ready) < self._params.concurrency
            or self._means.clock.seconds() >= self._saved_at + SAVE_S
        )

    def _stop(self, outcome: Outcome) -> None:
        self._stopping = True
        if self._outcome is None:
            self._outcome = outcome
        self._ready.clear()
        self._alarm.wake()

    def _done(self, ended: str) -> Done:
        """``ended``: why: "complete", "max_pages" or "max_seconds"."""
        counts = self._crawl.counts
        result = {
            "pages": counts.pages,
            "errors": counts.errors,
            "results": counts.results,
            "redirects": counts.redirects,
            "skipped": counts.skipped,
            "bytes": counts.bytes,
            "seconds": round(self._means.now_ms() / 1000 - self._crawl.started_ms / 1000, 1),
            "ended": ended,
        }
        return Done(result, write=partial(forget, crawl=self._crawl))

    # -- visits --------------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Begin as many visits as may be under way now."""
        while self._has_room():
            host = self._next_host()
            if host is None:
                return
            entry = self._ready.take(host)
            rules = self._means.hosts.rules(host)
            assert rules is not None  # _next_host saw to it, in this turn of the reactor
            if entry.kind == PAGE and not rules.allows(entry.url):
                self._forbidden(entry, rules)
                continue
            now = self._means.clock.seconds()
            self._means.hosts.pace(host).started(now, self._params.delay)
            sitemaps = rules.sitemaps if entry.depth == 0 else ()
            done = Deferred.fromCoroutine(self._visit(entry, host, sitemaps)).addErrback(self._broken)
            if not done.called:
                self._visits[entry.n] = entry, now, done

    def _has_room(self) -> bool:
        """Whether a further visit may begin."""
        wanted = not self._stopping and len(self._ended) < UNSAVED
        most = self._params.concurrency
        return wanted and self._fetching < most and len(self._visits) < most + READING

    def _broken(self, failure: Failure) -> None:
        """Not the page but the crawl itself has failed: the slice ends with this error."""
        self._error = self._error or failure
        self._stopping = True
        self._alarm.wake()

    def _next_host(self) -> str | None:
        """A host that may be asked now. If it is only a matter of time, that is seen to."""
        now = self._means.clock.seconds()
        soonest = None
        for host in self._ready.hosts():
            if self._means.hosts.rules(host) is None:
                self._load_rules(host)
                continue
            at = self._means.hosts.pace(host).ready_at()
            if at <= now:
                return host
            soonest = at if soonest is None else min(soonest, at)
        if soonest is not None:
            self._alarm.call_later("pace", soonest - now, self._launch)
        return None

    def _load_rules(self, host: str) -> None:
        if host not in self._loading:

            def loaded(_: object) -> None:
                self._loading.pop(host, None)
                self._launch()
                self._alarm.wake()

            waiter = self._means.hosts.load(host)
            self._loading[host] = waiter
            waiter.addCallback(loaded).addErrback(_ignore_cancel)

    def _forbidden(self, entry: Entry, rules: Rules) -> None:
        """robots.txt keeps us out of a page: of the first, that is the end."""
        if entry.depth > 0:
            self._ended.append((entry, None))
            self._alarm.wake()
        elif rules.unreached is not None:
            self._no_start(entry.url, rules.unreached)
        elif rules.closed:
            # Until these rules end a further attempt would meet them again, and ask nobody.
            wait_s = max(0.0, rules.until - self._means.clock.seconds())
            self._fail(f"{entry.url}: {rules.closed}", retryable=rules.passes, after_s=wait_s)
        else:
            self._fail(f"{entry.url}: the site's robots.txt does not allow it", code="robots")

    def _no_start(self, url: str, error: FetchError) -> None:
        """The page with which the crawl is to begin cannot be had.

        If nobody is there, a wrong address is the likeliest cause, which no waiting mends, and somebody may be looking
        on: so that is tried a few times only, a few seconds apart.
        """
        if not error.unreached:
            self._fail(f"{url}: {error}", retryable=error.retryable, code=error.code)
            return
        tries = self._context.job.attempt + 1
        again = error.retryable and tries < TRIES
        times = f", {tries} times in a row" if error.retryable and not again else ""
        self._fail(f"{url} cannot be reached: {error}{times}", retryable=again, code=error.code, after_s=UNREACHED_S)

    def _fail(self, message: str, *, retryable: bool = False, code: str = "peer", after_s: float | None = None) -> None:
        self._stop(Retry(code, message, after_s) if retryable else Failed(code, message))

    async def _visit(self, entry: Entry, host: str, sitemaps: Sequence[str]) -> None:
        means, fetching = self._means, True
        self._fetching += 1

        def answered() -> None:
            nonlocal fetching
            if fetching:
                fetching = False
                self._fetching -= 1

        def fetched() -> None:
            answered()
            self._launch()

        try:
            visited = await visit(
                entry,
                self._plan,
                means.fetcher,
                means.offload,
                means.hosts.pace(host),
                sitemaps,
                means.clock.seconds,
                fetched=fetched,
            )
        except CancelledError:
            return
        except Exception as error:
            # One page must not take the crawl with it, whatever it does to us.
            _log.failure("unexpected, at {url} of job {job}", url=entry.url, job=self._context.job.id)
            page = PageEvent(entry.url, None, entry.depth, 0, 0, 0, f"internal error: {type(error).__name__}")
            visited = Visited(page=page, failure=FetchError("internal error", retryable=True))
        finally:
            answered()
        self._visits.pop(entry.n, None)
        if visited.failure is not None and entry.depth == 0:
            self._no_start(entry.url, visited.failure)
            return
        self._emit(visited)
        self._ended.append((entry, visited))
        if visited.again and not self._stopping:
            self._ready.add([Entry(entry.n, entry.url, entry.level, entry.kind, entry.tries + 1)])
        self._launch()
        if self._save_is_due() or not self._visits:
            self._alarm.wake()
        elif not self._alarm.is_set("save"):
            self._alarm.call_later("save", SAVE_S, self._alarm.wake)

    def _emit(self, visited: Visited) -> None:
        if visited.page is None:
            return
        emit = self._context.emit
        self._emitted.append(emit("page", visited.page, key=visited.page.url))
        for result in visited.results:
            key = json.encode([result.url, result.name, result.value]).decode()
            self._emitted.append(emit("result", result, key=key))

    def _abandon(self) -> None:
        """Cancel whatever is under way."""
        self._alarm.stop()
        for waiter in list(self._loading.values()):
            waiter.cancel()
        for _, _, done in list(self._visits.values()):
            done.cancel()
        self._visits.clear()

    # -- saving --------------------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        """Await the confirms of what was emitted, then save what has ended, and take the next entries in hand."""
        ended, self._ended = self._ended, []
        emitted, self._emitted = self._emitted, []
        self._saved_at = self._means.clock.seconds()
        await _confirmed(emitted)
        batch = self._tally.batch(ended, room=most_known(self._params.max_pages) - self._crawl.known)
        if len(batch.sites) > len(self._crawl.sites):
            self._plan_for(batch.sites)
        held = len(self._ready) + len(self._visits) + len(self._ended)
        room = self._params.max_pages - self._crawl.counts.pages - batch.counts.pages - held
        wanted = Wanted(
            level=self._level,
            after=self._after,
            limit=0 if self._stopping else min(IN_HAND - held, room),
            next_level=held == 0,
        )
        saved = await self._context.checkpoint(partial(save, crawl=self._crawl, batch=batch, wanted=wanted))
        self._crawl = saved.crawl
        if saved.entries and not self._stopping:
            self._level = saved.entries[-1].level
            self._after = saved.entries[-1].n
            self._ready.add(saved.entries)
        self._show_progress()

    def _plan_for(self, sites: Sequence[str]) -> None:
        params = self._params
        scope = Scope(sites, params.allow, params.deny)
        self._plan = Plan(params.depth, params.delay, self._criteria, scope, params.sitemap)

    def _show_progress(self) -> None:
        counts = self._crawl.counts
        queued = self._crawl.queued
        seconds = self._means.clock.seconds() - self._began
        self._context.progress(
            done=counts.pages,
            total=min(self._params.max_pages, counts.pages + queued),
            queued=queued,
            errors=counts.errors,
            results=counts.results,
            rate=round((counts.pages - self._first.pages) / seconds, 1) if seconds > 0 else 0.0,
        )


async def _confirmed(emitted: Sequence[Deferred[None]]) -> None:
    """Returns when all have fired, raises what one of them failed with. As they are confirmed in order, nearly always
    one wait for the last is all; a DeferredList adds callbacks to each."""
    try:
        for waiter in reversed(emitted):
            if not waiter.called or isinstance(waiter.result, Failure):
                await waiter
    finally:
        for waiter in emitted:
            if isinstance(getattr(waiter, "result", None), Failure):
                waiter.addErrback(_told)


def _told(_: Failure) -> None:
    """Of several failures one is told."""


def _ignore_cancel(failure: Failure) -> None:
    failure.trap(CancelledError)
