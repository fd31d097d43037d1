"""Readers on a real feed: several topics and patterns under one cursor, and what one may not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from msgd.journal.interface import Gap
from msgd.notifier.feed import Feed
from msgd.notifier.items import Item
from msgd.notifier.reader import Reader
from tests.notifier.world import World, WorldCase, reactor


class Paper:
    """An outlet that always has room, and keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, Any]] = []
        self.gaps: list[tuple[str, Gap]] = []
        self._wanted = 0
        self._enough: Deferred[None] = Deferred()

    def drained(self) -> Deferred[None]:
        return succeed(None)

    def show(self, label: str, items: Sequence[Item]) -> int:
        self.shown += [(item.event.topic, msgspec.json.decode(item.event.data)) for item in items]
        self.labels = {label}
        if self._wanted and len(self.shown) >= self._wanted:
            self._wanted = 0
            self._enough.callback(None)
        return len(items)

    def straight(self) -> int:
        return -1

    def sent(self, data: bytes, taken: int) -> None:
        raise AssertionError("nothing went straight")

    def gap(self, label: str, gap: Gap, cursor: str = "") -> None:
        self.gaps.append((label, gap))

    def broke(self, label: str) -> None:
        raise AssertionError(f"the reader of {label} broke")

    async def holds(self, count: int) -> list[tuple[str, Any]]:
        """What has been shown, once that are ``count`` events."""
        if len(self.shown) < count:
            self._wanted, self._enough = count, Deferred()
            await self._enough
        return self.shown


class ReaderTest(WorldCase):
    """What readers of several patterns are shown."""

    async def feed(self, world: World) -> Feed:
        feed = Feed(world.broker, world.journal, reactor, frozenset)
        await feed.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(feed.stop()))
        return feed

    async def reader(
        self, feed: Feed, *patterns: str, since: str | None = None, sees: Callable[[str], bool] | None = None
    ) -> Paper:
        paper = Paper()
        reader = Reader(feed, patterns, paper, reactor, sees=sees)
        self.addCleanup(reader.stop)
        self.cursor = await reader.begin(since)
        reader.go()
        return paper

    async def test_several(self) -> None:
        """Topics and patterns together are one sequence in the order of the journal, from history into live push; an
        event that several of them name is shown once, without a label."""
        world = await self.world()
        feed = await self.feed(world)
        await world.scribe.record([world.event(f"room.{'abcd'[n % 4]}", data=n) for n in range(8)])
        paper = await self.reader(feed, "room.a", "room.*", "room.b", "user.ann", since="0")
        self.assertEqual([data for _, data in await paper.holds(8)], list(range(8)))
        later = [world.event(topic, data=topic) for topic in ("user.ann", "room.b", "user.bob", "room.a")]
        await world.scribe.record(later)
        self.assertEqual([data for _, data in (await paper.holds(11))[8:]], ["user.ann", "room.b", "room.a"])
        self.assertEqual(paper.labels, {""})

    async def test_unseen(self) -> None:
        """What a reader may not see is passed over, in history, live, transient and in gaps; named in full it is not
        asked about."""
        world = await self.world()
        feed = await self.feed(world)
        await world.scribe.record([world.event(topic, data=1) for topic in ("room.a", "room.b", "room.c")])
        asked: set[str] = set()

        def sees(topic: str) -> bool:
            asked.add(topic)
            return topic == "room.a"

        paper = await self.reader(feed, "room.*", "room.c", since="0", sees=sees)
        await paper.holds(2)
        await world.scribe.record([world.event(topic, data=2) for topic in ("room.b", "room.a", "room.c")])
        self.assertEqual(await paper.holds(4), [("room.a", 1), ("room.c", 1), ("room.a", 2), ("room.c", 2)])
        self.assertEqual(asked, {"room.a", "room.b"})
        begin = f"{(await world.journal.head()).epoch}-0"
        for topic in ("room.a", "room.b", "room.c"):
            await world.journal.erase(topic)
        again = await self.reader(feed, "room.*", "room.c", since=begin, sees=sees)
        await world.scribe.record([world.event("room.a", data=3)])
        await again.holds(1)
        self.assertEqual([gap.topic for _, gap in again.gaps], ["room.a", "room.c"])
