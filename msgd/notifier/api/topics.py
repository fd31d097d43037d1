"""Events over HTTP, of one topic or several: history by cursor, both ways; a long-poll; an event stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgd.errors import InvalidCursor, InvalidInput
from msgd.journal.interface import Gap, Journal, Page
from msgd.messages.cursors import Cursor, parse_cursor
from msgd.messages.topics import check_pattern, check_topic, is_pattern
from msgd.notifier.access import Access
from msgd.notifier.interface import JSON, Answer, Call, Principal, Reply, Route, answer
from msgd.notifier.limits import PAGE_DEFAULT, PAGE_MOST, QUERY_TOPICS, WAIT_MOST_S
from msgd.notifier.longpoll import LongPolls
from msgd.notifier.sse import CONTENT_TYPE as EVENT_STREAM
from msgd.notifier.streams import EventStreams, wants_stream
from msgd.notifier.views import event_view, page_view

FORMS: Final = (JSON, EVENT_STREAM)


class TopicsApi:
    """Reading events over HTTP. Each caller has its own cursor: one reader's poll never eats another's event."""

    def __init__(
        self,
        access: Access,
        journal: Journal,
        polls: LongPolls,
        streams: EventStreams,
        *,
        erased: Callable[[str], None],
    ) -> None:
        """``erased``: is told of topics that have been deleted."""
        self._access = access
        self._erased = erased
        self._journal = journal
        self._polls = polls
        self._streams = streams

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="GET", path="/api/topics/{topic}/events", endpoint=self.of_topic, produces=FORMS),
            Route(method="GET", path="/api/events", endpoint=self.of_topics, produces=FORMS),
            Route(method="DELETE", path="/api/topics/{topic}", endpoint=self.erase),
        )

    async def of_topic(self, call: Call) -> Reply:
        """The events of one topic."""
        return await self._read(call, [check_topic(call.words["topic"])])

    async def of_topics(self, call: Call) -> Reply:
        """The events of several topics and patterns, in one order."""
        names = [name for name in call.text("topics").split(",") if name]
        if not 1 <= len(names) <= QUERY_TOPICS:
            raise InvalidInput(
                f"topics= takes 1 to {QUERY_TOPICS} topics or patterns, separated by commas", where="topics"
            )
        return await self._read(call, [check_pattern(name) for name in dict.fromkeys(names)])

    async def erase(self, call: Call) -> Answer:
        """Delete all events of a topic; readers get a gap."""
        topic = check_topic(call.words["topic"])
        call.principal.require(call.principal.administers(topic), f"erasing {topic}")
        erased = await self._journal.erase(topic)
        self._erased(topic)
        return answer({"topic": topic, "erased": erased})

    async def _read(self, call: Call, patterns: Sequence[str]) -> Reply:
        if wants_stream(call.header("accept")):
            return await self._streams.open(call, patterns)
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        wait_s = call.number("wait", 0, least=0, most=WAIT_MOST_S)
        since, before = call.text("since"), call.text("before")
        if before and (since or wait_s):
            raise InvalidInput("before goes back in time: it goes with neither since nor wait", where="before")
        for pattern in patterns:
            await self._access.check_read(call.principal, pattern)
        if wait_s:
            return await self._polls.wait(call.principal, patterns, since or None, limit=limit, seconds=wait_s)
        return await self._page(call.principal, patterns, since, before, limit)

    async def _page(self, who: Principal, patterns: Sequence[str], since: str, before: str, limit: int) -> Answer:
        head = await self._journal.head()
        gaps: Sequence[Gap] = ()
        if since:
            resume = await self._journal.resume(patterns, parse_cursor(since))
            gaps = resume.gaps
            page = await self._next(patterns, resume.after, limit)
            upto = page.upto
        else:
            upto = _before(before, head.epoch) if before else head.pos
            page = await self._journal.read_back(patterns, before=upto + 1, limit=limit)

        def shows(topic: str) -> bool:
            return topic in patterns or is_pattern(topic) or self._access.sees(who, topic)

        events = [event_view(head.epoch, one) for one in page.events if shows(one.event.topic)]
        gaps = [gap for gap in gaps if shows(gap.topic)]
        return answer(page_view(events, str(Cursor(head.epoch, upto)), page.more, gaps))

    async def _next(self, patterns: Sequence[str], after: int, limit: int) -> Page:
        """The next page that has events, or the last one: the journal may need several looks for a rare topic."""
        while True:
            page = await self._journal.read(patterns, after=after, limit=limit)
            if page.events or not page.more:
                return page
            after = page.upto


def _before(text: str, epoch: str) -> int:
    """The place in front of a cursor's event."""
    cursor = parse_cursor(text)
    if cursor is None or cursor.epoch != epoch:
        raise InvalidCursor("before must be a cursor of an event that this journal holds", where="before")
    return cursor.pos - 1
