"""Where many readers go on, found with few questions; and pages that many want, read once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from msgd.journal.interface import Page, Resume, Retention
from msgd.messages.cursors import Cursor
from msgd.messages.topics import bucket
from msgd.notifier.history import History
from msgd.notifier.line import Line
from msgd.notifier.recent import Recent
from msgd.notifier.resuming import Place, Resuming
from tests.notifier.world import World, WorldCase, reactor


class Counting:
    """The world's journal, and how often it was asked."""

    def __init__(self, world: World) -> None:
        self._journal = world.journal
        self.resumes = 0
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def resume(self, patterns: Sequence[str], since: Cursor | None) -> Resume:
        self.resumes += 1
        return await self._journal.resume(patterns, since)

    async def read(self, patterns: Sequence[str], **more: Any) -> Page:
        self.reads += 1
        return await self._journal.read(patterns, **more)


class ResumingTest(WorldCase):
    """Against the journal's own answers."""

    async def asked(self, world: World, askers: Sequence[tuple[tuple[str, ...], Cursor | None]]) -> int:
        """Ask all at once, and compare each answer with the journal's; returns the number of questions it took."""
        journal = Counting(world)
        gone: list[tuple[str, int]] = []
        resuming = Resuming(journal, reactor, gone=lambda topic, first: gone.append((topic, first)))
        places: Sequence[Place] = await gatherResults(
            [Deferred.fromCoroutine(resuming.ask(patterns, since)) for patterns, since in askers], consumeErrors=True
        )
        epoch = (await world.journal.head()).epoch
        for (patterns, since), place in zip(askers, places, strict=True):
            single = await world.journal.resume(patterns, since)
            self.assertEqual((place.epoch, place.after), (epoch, single.after))
            self.assertEqual(sorted(place.gaps, key=str), sorted(single.gaps, key=str))
            for gap in single.gaps:
                if gap.reason in ("trimmed", "erased"):
                    self.assertIn((gap.topic, gap.first), gone)
        return journal.resumes

    async def filled(self) -> tuple[World, list[int]]:
        world = await self.world()
        recorded = await world.scribe.record([world.event(f"room.{'abc'[n % 3]}", data=n) for n in range(300)])
        return world, [one.pos for one in recorded]

    async def test_herd(self) -> None:
        """A thousand readers of some topics, each with a cursor of its own, are two questions; one alone is one."""
        world, places = await self.filled()
        epoch = (await world.journal.head()).epoch
        chance = random.Random(1)
        herd = [((f"room.{chance.choice('abc')}",), Cursor(epoch, chance.choice(places))) for _ in range(1000)]
        self.assertEqual(await self.asked(world, herd[:1]), 1)
        self.assertLessEqual(await self.asked(world, herd), 2)

    async def test_gaps(self) -> None:
        """What was trimmed or erased, of whatever a reader reads and wherever it is, is told as the journal does."""
        world, places = await self.filled()
        epoch = (await world.journal.head()).epoch
        await world.journal.trim([Retention("room.a", keep=60)])
        await world.journal.erase("room.b")
        await world.scribe.record([world.event("room.b", data="after")])
        wanted = [
            ("room.a",),
            ("room.b",),
            ("room.c",),
            ("room.a", "room.c"),
            ("room.*",),
            ("#",),
            ("user.x", "room.b"),
        ]
        cursors = [Cursor(epoch, pos) for pos in (0, 1, *places[::25], places[-1])]
        cursors += [Cursor(epoch, places[-1] + 1000), Cursor("0ther", 5), Cursor("0ther", 7)]
        askers: list[tuple[tuple[str, ...], Cursor | None]] = [(one, since) for one in wanted for since in cursors]
        random.Random(2).shuffle(askers)
        await self.asked(world, [*askers, *((one, None) for one in wanted)])

    async def test_another_life(self) -> None:
        """After a change of epoch a herd with cursors of the old life is one question for each thing read."""
        world, places = await self.filled()
        epoch = (await world.journal.head()).epoch
        await world.journal.renew_epoch()
        herd = [((name,), Cursor(epoch, pos)) for pos in places[:100] for name in ("room.a", "room.*")]
        self.assertLessEqual(await self.asked(world, herd), 2 * 2)


class HistoryTest(WorldCase):
    """Pages for many."""

    async def test_shared(self) -> None:
        """Readers of one topic that start anywhere in its recent history at the same time make few reads of it,
        and are all shown what the journal holds; those who come later make none."""
        world = await self.world()
        recorded = await world.scribe.record([world.event("room.a", data=n) for n in range(1000)])
        epoch = (await world.journal.head()).epoch
        line = Line()
        line.begin(epoch, recorded[-1].pos)
        line.settle(bucket("room.a"), recorded[-1].pos)
        recent = Recent(line)
        recent.open("room.a")
        journal = Counting(world)
        history = History(journal, line, recent, reactor)
        self.addCleanup(history.stop)

        async def follow(after: int) -> None:
            wanted = [one.pos for one in recorded if one.pos > after]
            found: list[int] = []
            while after < recorded[-1].pos:
                page = await history.page(epoch, ("room.a",), after=after, limit=250)
                self.assertLessEqual(len(page.items), 250)
                found += [item.pos for item in page.items]
                after = page.upto
            self.assertEqual(found, wanted)

        chance = random.Random(3)
        places = [0, *(chance.choice(recorded).pos for _ in range(300))]
        chance.shuffle(places)
        await gatherResults([Deferred.fromCoroutine(follow(after)) for after in places], consumeErrors=True)
        self.assertLess(journal.reads, 15)
        reads = journal.reads
        await gatherResults([Deferred.fromCoroutine(follow(0)) for after in places], consumeErrors=True)
        self.assertEqual(journal.reads, reads)
        first, second = [await history.page(epoch, ("room.a",), after=0, limit=250) for _ in range(2)]
        self.assertIs(first.items, second.items)  # and so their frames

    async def test_stopped_by_another(self) -> None:
        """Of those who wait for the same page one may stop another when it is told; a third has its page all the
        same."""
        world = await self.world()
        await world.scribe.record([world.event("room.a")])
        line = Line()
        history = History(world.journal, line, Recent(line), reactor)
        self.addCleanup(history.stop)
        first, second, third = [
            Deferred.fromCoroutine(history.page("e", ("room.a",), after=0, limit=9)) for _ in range(3)
        ]
        first.addCallback(lambda _: second.cancel())
        await first
        with self.assertRaises(CancelledError):
            await second
        self.assertEqual(len((await third).items), 1)
