"""The worker of ``feed`` jobs: each slice is one poll, and between two of them the job pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from msgd.database import Transaction
from msgd.errors import PeerError
from msgd.messages.wire import format_time
from msgd.services.messenger.feeds import json_feed, store
from msgd.services.messenger.feeds.fetching import Fetched, Fetcher
from msgd.services.messenger.feeds.params import FEED, FeedParams
from msgd.services.messenger.feeds.parsing import Entry, Parsed, parse, unpacked
from msgd.services.messenger.feeds.polling import FeedState, failed, given_up, pause_s
from msgd.services.messenger.feeds.store import digest
from msgd.services.messenger.webhooks.params import checked_url
from msgd.work.interface import Context, Continue, Done, Failed, Outcome
from msgd.work.network import GuardedEndpoints, Reach

GONE: Final = 410
"""The feed is no more, and whoever asks is to stop asking (RFC 9110 §15.5.11)."""

NOT_MODIFIED: Final = 304


class Feeds:
    """Performs ``feed`` jobs. Conforms to :class:`~msgd.work.interface.Worker`."""

    type = FEED

    def __init__(
        self,
        reactor: Any,
        reach: Reach,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``reach``: which addresses may be dialled."""
        self._reactor = reactor
        self._fetcher = Fetcher(reactor, GuardedEndpoints(reactor, reach))
        self._now_ms = now_ms

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop: connections end with their requests."""

    async def perform(self, context: Context[FeedParams]) -> Outcome:
        """One poll. Events before state: what is new is published, then kept in mind together with the save."""
        params = context.params
        state = msgspec.convert(context.state or {}, FeedState)
        asked = state.url or checked_url(params.url)
        feed = digest(checked_url(params.url), params.topic)
        try:
            fetched = await self._fetcher.fetch(asked, etag=state.etag, modified=state.modified)
            if fetched.status == GONE:
                return Failed("gone", f"{asked} answered 410: the feed is no more")
            if fetched.status == NOT_MODIFIED:
                write = partial(store.asked, feed=feed, now_ms=self._now_ms())
                return await self._settle(context, _read(state, fetched, asked), write=write)
            if fetched.status != 200:
                raise PeerError(f"it answered {fetched.status}", where=asked, retry_after=fetched.retry_after_s)
            parsed = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _parse, fetched)
        except PeerError as error:
            return await self._failed(context, state, error)
        state = _read(state, fetched, asked)
        ids = {digest(entry.id): entry for entry in parsed.entries}
        known = await context.checkpoint(partial(_seen, feed, ids))
        new = [entry for entry in parsed.entries if digest(entry.id) not in known]
        # All under way at once; they keep their order, and a repeat of the poll has the same ids.
        for published in [_publish(context, parsed, entry) for entry in new]:
            await published
        state = replace(state, title=parsed.title, entries=state.entries + len(new))
        write = partial(store.saw, feed=feed, entries=ids.keys(), now_ms=self._now_ms())
        return await self._settle(context, state, parsed.problem, write)

    async def _failed(self, context: Context[FeedParams], state: FeedState, error: PeerError) -> Outcome:
        now_ms = self._now_ms()
        if not context.params.every:
            raise error  # it is tried again as any job is
        after = failed(state, error.message, now_ms)
        if given_up(after, now_ms):
            return Failed(error.code, f"for two weeks it could not be read; the last time: {error.message}")
        await self._tell(context, state, after)
        return Continue(msgspec.to_builtins(after), after_s=pause_s(context.params.every, after, error.retry_after))

    async def _settle(
        self,
        context: Context[FeedParams],
        state: FeedState,
        problem: str = "",
        write: Callable[[Transaction], object] | None = None,
    ) -> Outcome:
        """The outcome of a poll that went well; ``problem``: what was wrong with the feed all the same."""
        after = replace(state, problem=problem)
        await self._tell(context, state, after)
        if not context.params.every:
            return Done({"entries": after.entries, "title": after.title, "problem": problem or None}, write)
        return Continue(msgspec.to_builtins(after), write, after_s=pause_s(context.params.every, after))

    async def _tell(self, context: Context[FeedParams], before: FeedState, after: FeedState) -> None:
        """What there is to see of it; a problem that is new is an event too."""
        shown = {"done": after.entries, "polls": after.polls, "title": after.title, "problem": after.problem or None}
        if after.url:
            shown["moved"] = after.url
        context.progress(**shown)
        if after.problem and after.problem != before.problem:
            await context.emit("problem", {"message": after.problem}, key=str(after.polls))


def _seen(feed: bytes, ids: dict[bytes, Entry], transaction: Transaction) -> set[bytes]:
    return store.seen(transaction, feed, ids)


def _publish(context: Context[FeedParams], parsed: Parsed, entry: Entry) -> Deferred[None]:
    """Publish one entry. Its id is made of the feed's URL and the entry's id alone (DESIGN §4.2)."""
    url, topic = context.params.url, context.params.topic
    id_ = digest(checked_url(url), entry.id).hex()
    return context.publish(topic, "entry", entry_data(url, parsed.title, entry), id_=id_)


def entry_data(url: str, title: str, entry: Entry) -> dict[str, Any]:
    """The ``data`` of an ``entry`` event; ``title``, ``text`` and ``url`` are shown as a notification."""
    return {
        "feed": {"url": url, "title": title},
        "id": entry.id,
        "title": entry.title,
        "text": entry.text,
        "url": entry.url or None,
        "published": None if entry.published_ms is None else format_time(entry.published_ms),
        "updated": None if entry.updated_ms is None else format_time(entry.updated_ms),
        "authors": entry.authors,
        "enclosures": entry.enclosures,
    }


def _parse(fetched: Fetched) -> Parsed:
    body = unpacked(fetched.body, fetched.coding)
    if json_feed.is_json(body):
        return json_feed.parse(body, fetched.url)
    return parse(body, fetched.url, fetched.charset)


def _read(state: FeedState, fetched: Fetched, asked: str) -> FeedState:
    """The state after an answer that is no error; one that says nothing of ETag or date keeps what was known."""
    same = fetched.status == NOT_MODIFIED
    return replace(
        state,
        url="" if fetched.moved == asked and not state.url else fetched.moved,
        etag=fetched.etag or (state.etag if same else ""),
        modified=fetched.modified or (state.modified if same else ""),
        polls=state.polls + 1,
        failures=0,
        failing_ms=0,
        problem=state.problem if same else "",
    )
