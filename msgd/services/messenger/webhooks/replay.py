"""Replay: events of the journal sent to an endpoint, once more or for the first time.

Each event becomes a ``webhook`` job under a key of its own, so that the same replay again within a day
(``submitting.KEY_PERIOD_MS``) makes nothing twice; only what had failed is tried anew. The ``webhook-id`` is the
event's for ever: a receiver that has it already knows it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Raw, Struct
from twisted.internet.defer import Deferred, gatherResults

from msgd.errors import Conflict, InvalidInput
from msgd.jobs.interface import Jobs, State, Submission
from msgd.journal.interface import Journal
from msgd.messages import json
from msgd.messages.cursors import FIRST, Cursor, parse_cursor
from msgd.messages.events import Recorded
from msgd.messages.topics import check_pattern
from msgd.messages.wire import format_time, parse_time
from msgd.notifier.interface import Principal
from msgd.services.messenger.webhooks.endpoints import Endpoint
from msgd.services.messenger.webhooks.message import id_of
from msgd.services.messenger.webhooks.params import EVENT, WEBHOOK

MOST: Final = 500
"""Jobs of one request: a few seconds' work of a database. The answer says where to go on."""

PATTERNS: Final = 20
"""Patterns of one request."""

SCANNED: Final = 10_000
"""Events looked at in one request, where a time is asked for and not a cursor."""

BATCH: Final = 50
"""Submissions under way at once: they share their commits."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT")
"""How a time begins, and no cursor does."""


class Replay(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be sent: events of these topics or patterns after ``since``, up to ``until``; each a cursor (``"0"``:
    from the first kept) or an RFC 3339 time."""

    topics: list[str]
    since: str = FIRST
    until: str | None = None


class Replayed(Struct, frozen=True):
    """What came of it."""

    submitted: int  # new jobs
    again: int  # jobs that had failed, and run again
    known: int  # jobs that there were already
    cursor: str  # where to go on
    more: bool


class _Span(Struct, frozen=True):
    """Which events, in numbers."""

    after: int
    upto: int
    since_ms: int | None
    until_ms: int | None

    def has(self, recorded: Recorded) -> bool:
        time_ms = recorded.event.time_ms
        return (self.since_ms is None or time_ms >= self.since_ms) and (
            self.until_ms is None or time_ms <= self.until_ms
        )


def checked_topics(who: Principal, topics: Sequence[str]) -> Sequence[str]:
    """The topics, if ``who`` may have all of them sent away. Raises InvalidInput, Forbidden.

    Of rooms some are private, which no grant to read tells: they take ``admin``.
    """
    if not 0 < len(topics) <= PATTERNS:
        raise InvalidInput(f"give 1 to {PATTERNS} topics or patterns", where="topics")
    for topic in topics:
        check_pattern(topic)
        who.require(who.may_read(topic), f"reading {topic}")
        if topic.partition(".")[0] in ("room", "*", "#"):
            who.require(who.administers(topic), f"replaying rooms: admin:{topic}")
    return topics


class Replaying:
    """Makes jobs of journaled events."""

    def __init__(self, journal: Journal, jobs: Jobs) -> None:
        self._journal = journal
        self._jobs = jobs

    async def replay(self, endpoint: Endpoint, topics: Sequence[str], asked: Replay) -> Replayed:
        """At most MOST events, the earliest first."""
        epoch, span = await self._span(topics, asked)
        at, scanned = span.after, 0
        found: list[Recorded] = []
        more = True
        while more and len(found) < MOST and scanned < SCANNED:
            page = await self._journal.read(topics, after=at, limit=MOST - len(found), upto=span.upto)
            found += [recorded for recorded in page.events if span.has(recorded)]
            scanned += len(page.events)
            at, more = page.upto, page.more
        counts = {"submitted": 0, "again": 0, "known": 0}
        for begin in range(0, len(found), BATCH):
            batch = [Deferred.fromCoroutine(self._send(endpoint, one)) for one in found[begin : begin + BATCH]]
            for came in await gatherResults(batch, consumeErrors=True):
                counts[came] += 1
        return Replayed(**counts, cursor=str(Cursor(epoch, at)), more=more)

    async def _span(self, topics: Sequence[str], asked: Replay) -> tuple[str, _Span]:
        head = await self._journal.head()
        since_ms = until_ms = None
        after, upto = 0, head.pos
        if _TIME.match(asked.since):
            since_ms = parse_time(asked.since, where="since")
        else:
            after = (await self._journal.resume(topics, parse_cursor(asked.since))).after
        if asked.until is not None and _TIME.match(asked.until):
            until_ms = parse_time(asked.until, where="until")
        elif asked.until is not None:
            cursor = parse_cursor(asked.until)
            if cursor is None or cursor.epoch != head.epoch:
                raise InvalidInput("until must be a time, or a cursor of this journal", where="until")
            upto = min(cursor.pos, head.pos)
        return head.epoch, _Span(after, max(upto, after), since_ms, until_ms)

    async def _send(self, endpoint: Endpoint, recorded: Recorded) -> str:
        event = recorded.event
        data = {
            "topic": event.topic,
            "seq": recorded.seq,
            "type": event.type,
            "source": event.source,
            "time": format_time(event.time_ms),
            "data": Raw(event.data),
        }
        params = {
            "endpoint": endpoint.id,
            "event": event.type if re.match(EVENT, event.type) else "event",
            "id": id_of(event),
            "time": format_time(event.time_ms),
            "data": data,
        }
        submitted = await self._jobs.submit(
            Submission(
                type=WEBHOOK.name,
                params=json.encode(params),
                owner=endpoint.owner,
                key=f"replay-{endpoint.id}-{params['id']}",
            )
        )
        if submitted.created:
            return "submitted"
        if submitted.job.state is not State.FAILED:
            return "known"
        try:
            await self._jobs.run_again(submitted.job.id)
        except Conflict:  # somebody else was quicker
            return "known"
        return "again"
