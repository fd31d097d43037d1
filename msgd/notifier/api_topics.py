"""History by cursor, both ways, of one topic or several; with ``wait`` a long-poll."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut

from msgd.errors import InvalidCursor, InvalidInput
from msgd.journal.interface import Gap, Journal, Page
from msgd.messages.cursors import Cursor, parse_cursor
from msgd.messages.topics import check_pattern, check_topic, is_pattern
from msgd.notifier.commands import Commands
from msgd.notifier.feed import Feed
from msgd.notifier.interface import Answer, Call, Principal, Route, answer
from msgd.notifier.items import Item
from msgd.notifier.limits import PAGE_DEFAULT, PAGE_MOST, POLL_S, QUERY_TOPICS, WAIT_MOST_S
from msgd.notifier.views import event_view, gap_view


class TopicsApi:
    """Reading events over HTTP. Each caller has its own cursor: one reader's poll never eats another's event."""

    def __init__(self, commands: Commands, feed: Feed, journal: Journal, clock: Any) -> None:
        self._commands = commands
        self._feed = feed
        self._journal = journal
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="GET", path="/api/topics/{topic}/events", endpoint=self.of_topic),
            Route(method="GET", path="/api/events", endpoint=self.of_topics),
            Route(method="DELETE", path="/api/topics/{topic}", endpoint=self.erase),
        )

    async def of_topic(self, call: Call) -> Answer:
        """A page of one topic."""
        return await self._page(call, [check_topic(call.words["topic"])])

    async def of_topics(self, call: Call) -> Answer:
        """A page of several topics and patterns, in one order."""
        names = [name for name in call.text("topics").split(",") if name]
        if not 1 <= len(names) <= QUERY_TOPICS:
            raise InvalidInput(
                f"topics= takes 1 to {QUERY_TOPICS} topics or patterns, separated by commas", where="topics"
            )
        return await self._page(call, [check_pattern(name) for name in dict.fromkeys(names)])

    async def erase(self, call: Call) -> Answer:
        """Delete all events of a topic; readers get a gap."""
        topic = check_topic(call.words["topic"])
        call.principal.require(call.principal.administers(topic), f"erasing {topic}")
        return answer({"topic": topic, "erased": await self._journal.erase(topic)})

    async def _page(self, call: Call, patterns: Sequence[str]) -> Answer:
        for pattern in patterns:
            await self._check_readable(call.principal, pattern)
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        wait_s = call.number("wait", 0, least=0, most=WAIT_MOST_S)
        since, before = call.text("since"), call.text("before")
        if before and (since or wait_s):
            raise InvalidInput("before goes back in time: it goes with neither since nor wait", where="before")
        head = await self._journal.head()
        gaps: Sequence[Gap] = ()
        if since:
            resume = await self._journal.resume(patterns, parse_cursor(since))
            gaps = resume.gaps
            page = await self._read(call, patterns, resume.after, limit, 0 if gaps else wait_s)
            upto = page.upto
        elif wait_s:
            page = await self._read(call, patterns, head.pos, limit, wait_s)
            upto = page.upto
        else:
            upto = _before(before, head.epoch) if before else head.pos
            page = await self._journal.read_back(patterns, before=upto + 1, limit=limit)
        view: dict[str, Any] = {
            "events": [event_view(head.epoch, one) for one in page.events],
            "cursor": str(Cursor(head.epoch, upto)),
            "more": page.more,
        }
        if gaps:
            view["gaps"] = [gap_view(gap) for gap in gaps]
        return answer(view)

    async def _check_readable(self, who: Principal, pattern: str) -> None:
        kind, _, job = pattern.partition(".")
        if kind == "job" and job and "." not in job and not is_pattern(job):
            await self._commands.job(who, job)
        else:
            who.require(who.may_read(pattern), f"reading {pattern}")

    async def _read(self, call: Call, patterns: Sequence[str], after: int, limit: int, wait_s: float) -> Page:
        """A page with at least one event, or the last one there is when the time is up."""
        page = await self._next(patterns, after, limit)
        if page.events or not wait_s:
            return page
        end_s = self._clock.seconds() + wait_s
        watch = _Watch(self._feed, patterns)
        gone = call.gone()
        gone.addCallback(lambda _: watch.ring())
        try:
            while True:
                watch.quiet()
                page = await self._next(patterns, page.upto, limit)
                left_s = end_s - self._clock.seconds()
                if page.events or left_s <= 0 or gone.called:
                    return page
                await watch.rung(left_s if watch.hears else min(left_s, POLL_S), self._clock)
        finally:
            gone.cancel()
            watch.end()

    async def _next(self, patterns: Sequence[str], after: int, limit: int) -> Page:
        """The next page that has events, or the last one: the journal may need several looks for a rare topic."""
        while True:
            page = await self._journal.read(patterns, after=after, limit=limit)
            if page.events or not page.more:
                return page
            after = page.upto


class _Watch:
    """A bell that rings when something happens on one of several topics or patterns."""

    def __init__(self, feed: Feed, patterns: Sequence[str]) -> None:
        self._feed = feed
        self._patterns = patterns
        self._rung = False
        self._waiting: Deferred[None] | None = None
        self._ears = [_Ear(pattern, self.ring) for pattern in patterns]
        self._settled = []
        for ear in self._ears:
            feed.buckets.hold(ear.pattern)
            feed.add(ear)
            # Until then something may have happened unheard.
            self._settled.append(feed.buckets.settled(ear.pattern).addCallbacks(lambda _: self.ring(), lambda _: None))

    @property
    def hears(self) -> bool:
        """Whether nothing can happen unheard."""
        return all(self._feed.buckets.floor(pattern) is not None for pattern in self._patterns)

    def quiet(self) -> None:
        """What has rung so far does not count."""
        self._rung = False

    def ring(self) -> None:
        self._rung = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def rung(self, seconds: float, clock: Any) -> None:
        """Returns when it has rung since :meth:`quiet`, or the time is up."""
        if self._rung:
            return
        self._waiting = Deferred()
        self._waiting.addTimeout(seconds, clock)
        try:
            await self._waiting
        except TimedOut:
            self._waiting = None

    def end(self) -> None:
        for settled in self._settled:
            settled.cancel()
        for ear in self._ears:
            self._feed.remove(ear)
            self._feed.buckets.let_go(ear.pattern)


class _Ear:
    """Hears that something has happened on a topic or pattern. A :class:`~msgd.notifier.feed.Listener`."""

    def __init__(self, pattern: str, ring: Callable[[], None]) -> None:
        self.pattern = pattern
        self._ring = ring

    def offer(self, items: Sequence[Item]) -> None:
        self._ring()

    def show_transient(self, item: Item) -> None:
        """Not kept, so not in a page."""

    def renewed(self) -> None:
        self._ring()


def _before(text: str, epoch: str) -> int:
    """The place in front of a cursor's event."""
    cursor = parse_cursor(text)
    if cursor is None or cursor.epoch != epoch:
        raise InvalidCursor("before must be a cursor of an event that this journal holds", where="before")
    return cursor.pos - 1
