"""What every journal does (msgd.journal.interface): reading, resuming, trimming and following."""

from __future__ import annotations

from msgd.errors import InvalidTopic
from msgd.journal.interface import Gap, GapReason, Journal, Retention
from msgd.messages.cursors import Cursor, parse_cursor
from msgd.messages.events import Recorded
from tests.contract.journal_base import DAY_MS, HOUR_MS, JournalBase, event, seqs


class ReadingCases(JournalBase):
    """The part about reading, resuming, trimming and following."""

    # -- reading ------------------------------------------------------------------------------------------------------

    async def test_read(self) -> None:
        """Exact names, patterns, and lists of both give what they name, in pos order, each once."""
        journal, lease = await self.begin()
        names = ["job", "job.a", "job.a.b", "jobs.a", "room.a", "job.b", "room.b"]
        await journal.append(lease, [event(name, str(turn)) for turn in (1, 2) for name in names])
        for patterns, wanted in {
            ("job.a",): ["job.a"],
            ("job.*",): ["job.a", "job.b"],
            ("job.#",): ["job", "job.a", "job.a.b", "job.b"],
            ("*.a",): ["job.a", "jobs.a", "room.a"],
            ("#.b",): ["job.a.b", "job.b", "room.b"],
            ("#",): names,
            ("room.a", "job.a", "none"): ["job.a", "room.a"],
            ("job.*", "job.a", "room.b"): ["job.a", "job.b", "room.b"],
            ("none",): [],
            ("none.*",): [],
        }.items():
            page = await journal.read(patterns, after=0, limit=100)
            self.assertEqual(seqs(page), [(name, turn) for turn in (1, 2) for name in wanted], patterns)
            self.assertEqual((page.upto, page.more), (len(names) * 2, False))
            back = await journal.read_back(patterns, before=1000, limit=100)
            self.assertEqual((back.events, back.more), (page.events, False))

    async def test_no_patterns(self) -> None:
        """Who asks for nothing gets nothing; who asks for what cannot be is told."""
        journal, _ = await self.begin(event("a", "1"))
        self.assertEqual(seqs(await journal.read([], after=0, limit=10)), [])
        self.assertEqual(seqs(await journal.read_back([], before=10, limit=10)), [])
        for attempt in (
            journal.read(["a..b"], after=0, limit=1),
            journal.read_back(["ä"], before=5, limit=1),
            journal.resume([""], None),
            journal.topics("a b"),
            journal.erase("a.*"),
        ):
            with self.assertRaises(InvalidTopic):
                await attempt

    async def test_paging(self) -> None:
        """Pages of any size, of one topic, a few, or all, give each event once, in order, to the end."""
        journal, lease = await self.begin()
        batch = [event(f"t.{number % 3}", str(number)) for number in range(20)]
        await journal.append(lease, batch)
        for patterns in (["t.1"], ["t.0", "t.2"], ["t.*"], ["#"]):
            whole = (await journal.read(patterns, after=0, limit=100)).events
            for size in (1, 2, 7):
                self.assertEqual(await self.all_pages(journal, patterns, size), whole)
                self.assertEqual(await self.all_pages_back(journal, patterns, size), whole)

    async def all_pages(self, journal: Journal, patterns: list[str], size: int) -> list[Recorded]:
        found: list[Recorded] = []
        after, more = 0, True
        while more:
            page = await journal.read(patterns, after=after, limit=size)
            self.assertLessEqual(len(page.events), size)
            found.extend(page.events)
            after, more = page.upto, page.more
        self.assertEqual(after, (await journal.head()).pos)
        return found

    async def all_pages_back(self, journal: Journal, patterns: list[str], size: int) -> list[Recorded]:
        found: list[Recorded] = []
        before, more = 10_000, True
        while more:
            page = await journal.read_back(patterns, before=before, limit=size)
            self.assertLessEqual(len(page.events), size)
            found[:0] = page.events
            before, more = page.events[0].pos, page.more
        return found

    async def test_bounds(self) -> None:
        """``after`` and ``before`` are left out, ``upto`` is in; a reader ahead of the head stays where it is."""
        journal, _ = await self.fill("a", 5)
        page = await journal.read(["a"], after=1, limit=10, upto=3)
        self.assertEqual((seqs(page), page.upto, page.more), ([("a", 2), ("a", 3)], 3, False))
        self.assertEqual(seqs(await journal.read_back(["a"], before=3, limit=1)), [("a", 2)])
        page = await journal.read(["a"], after=9, limit=10)
        self.assertEqual((seqs(page), page.upto, page.more), ([], 9, False))

    async def test_pages_are_bounded_in_bytes(self) -> None:
        """A page ends at about 4 MiB of data, and reading goes on after it; a back page keeps the last."""
        journal, lease = await self.begin()
        big = b'"' + b"x" * (1024 * 1024 - 2) + b'"'
        await journal.append(lease, [event("a", str(number), data=big) for number in range(6)])
        page = await journal.read(["a"], after=0, limit=100)
        self.assertEqual((len(page.events), page.more, page.upto), (4, True, page.events[-1].pos))
        rest = await journal.read(["a"], after=page.upto, limit=100)
        self.assertEqual((seqs(rest), rest.more), ([("a", 5), ("a", 6)], False))
        back = await journal.read_back(["a"], before=100, limit=100)
        self.assertEqual((seqs(back), back.more), ([("a", number) for number in (3, 4, 5, 6)], True))

    async def test_topics(self) -> None:
        """Topics come in the order of their names, byte by byte, and say what is kept of them."""
        journal, lease = await self.begin()
        for name in ("b.x", "b", "B", "b-1", "b_1", "a", "b.x"):
            await journal.append(lease, [event(name, str((await journal.head()).pos))])
        await journal.erase("b.x")
        names = [one.topic for one in await journal.topics("#")]
        self.assertEqual(names, ["B", "a", "b", "b-1", "b.x", "b_1"])
        self.assertEqual([one.topic for one in await journal.topics("#", after="a", limit=2)], ["b", "b-1"])
        (info,) = await journal.topics("b.*")
        self.assertEqual((info.first_seq, info.last_seq, info.last_pos), (3, 2, 7))

    # -- resuming -----------------------------------------------------------------------------------------------------

    async def test_resume(self) -> None:
        """A cursor resumes where it is; none, at the first kept; nothing lost, no gap."""
        journal, _ = await self.fill("a", 3)
        self.assertEqual(await self.resumed(journal, ["a"], None), (0, []))
        self.assertEqual(await self.resumed(journal, ["a", "b.*", "#"], 2), (2, []))
        self.assertEqual(await self.resumed(journal, ["a"], 3), (3, []))

    async def resumed(self, journal: Journal, patterns: list[str], pos: int | None) -> tuple[int, list[Gap]]:
        since = None if pos is None else await self.cursor(journal, pos)
        resume = await journal.resume(patterns, since)
        return resume.after, list(resume.gaps)

    async def test_trimmed_gap(self) -> None:
        """Who is behind what was trimmed learns how many are lost; who is not, sees no gap."""
        journal, _ = await self.fill("a", 10)
        await journal.trim([Retention("a", keep=4)])
        for pos, lost in ((0, 6), (1, 5), (5, 1)):
            cursor = str(await self.cursor(journal, pos))
            gap = Gap("a", cursor, 7, lost, GapReason.TRIMMED)
            for patterns in (["a"], ["#"], ["*", "a"]):
                self.assertEqual(await self.resumed(journal, patterns, pos), (pos, [gap]))
        self.assertEqual(await self.resumed(journal, ["a"], 6), (6, []))
        self.assertEqual(await self.resumed(journal, ["b", "b.#"], 0), (0, []))

    async def test_gap_when_ids_are_forgotten(self) -> None:
        """After a day it is no longer known how many a cursor in the midst has lost; one from before all is told."""
        journal, _ = await self.fill("a", 10)
        await journal.trim([Retention("a", keep=4)])
        self.time_ms += DAY_MS
        await journal.trim([Retention("a", keep=4)])
        lost = {pos: (await self.resumed(journal, ["a"], pos))[1][0].lost for pos in (0, 3)}
        self.assertEqual(lost, {0: 6, 3: None})

    async def test_erased_gap(self) -> None:
        """Erasing a topic leaves its seq, and a gap; later readers see none."""
        journal, lease = await self.fill("a", 3)
        await journal.append(lease, [event("b", "1")])
        self.assertEqual(await journal.erase("a"), 3)
        self.assertEqual(await journal.erase("a"), 0)
        self.assertEqual(await journal.erase("never"), 0)
        cursor = str(await self.cursor(journal, 1))
        self.assertEqual(await self.resumed(journal, ["#"], 1), (1, [Gap("a", cursor, 4, 2, GapReason.ERASED)]))
        self.assertEqual(seqs(await journal.append(lease, [event("a", "4")])), [("a", 4)])
        self.assertEqual(seqs(await journal.read(["#"], after=0, limit=9)), [("b", 1), ("a", 4)])
        self.assertEqual(await self.resumed(journal, ["a"], 4), (4, []))

    async def test_trimmed_after_erased(self) -> None:
        """The reason of a gap is that of what this reader missed."""
        journal, lease = await self.fill("a", 4)
        await journal.erase("a")
        for number in range(4, 8):
            await journal.append(lease, [event("a", str(number))])
        await journal.trim([Retention("#", keep=1)])
        reasons = {pos: (await self.resumed(journal, ["a"], pos))[1][0].reason for pos in (1, 5)}
        self.assertEqual(reasons, {1: GapReason.ERASED, 5: GapReason.TRIMMED})

    async def test_another_epoch(self) -> None:
        """A cursor of another life begins anew, with a gap for each thing asked for."""
        journal, _ = await self.fill("a", 3)
        old = await self.cursor(journal, 2)
        epoch = await journal.renew_epoch()
        self.assertNotEqual(epoch, old.epoch)
        self.assertEqual((await journal.head()).epoch, epoch)
        resume = await journal.resume(["a", "b", "c.*"], old)
        first = {"a": 1, "b": None, "c.*": None}
        self.assertEqual(resume.after, 0)
        self.assertEqual(list(resume.gaps), [Gap(t, str(old), n, None, GapReason.EPOCH) for t, n in first.items()])
        parsed = parse_cursor((await journal.read(["a"], after=0, limit=1)).events[0].cursor(epoch))
        self.assertEqual(parsed, Cursor(epoch, 1))

    async def test_rewound(self) -> None:
        """A cursor ahead of the journal begins anew, with a gap."""
        journal, _ = await self.fill("a", 3)
        after, gaps = await self.resumed(journal, ["a"], 4)
        self.assertEqual((after, [(gap.reason, gap.lost, gap.first) for gap in gaps]), (0, [("rewound", None, 1)]))

    async def test_gaps_of_many_topics(self) -> None:
        """A pattern over more trimmed topics than can be told one by one gives one gap; a name keeps its own."""
        journal, lease = await self.begin()
        for turn in range(2):
            await journal.append(lease, [event(f"t.{number}", str(turn)) for number in range(150)])
        self.assertEqual(await journal.trim([Retention("#", keep=1)]), 150)
        _, gaps = await self.resumed(journal, ["t.*", "t.7"], 0)
        self.assertEqual([(gap.topic, gap.first, gap.lost) for gap in gaps], [("t.*", None, None), ("t.7", 2, 1)])

    # -- retention ----------------------------------------------------------------------------------------------------

    async def test_trim_by_number(self) -> None:
        """The newest stay, the first rule that matches decides, and a limit is kept to."""
        journal, lease = await self.begin()
        batch = [event(name, str(number)) for number in range(10) for name in ("room.a", "room.b", "user.x")]
        await journal.append(lease, batch)
        rules = [Retention("room.b"), Retention("room.*", keep=3), Retention("#", keep=9)]
        self.assertEqual(await journal.trim(rules, limit=5), 5)
        self.assertEqual(await journal.trim(rules, limit=5), 3)
        self.assertEqual(await journal.trim(rules, limit=5), 0)
        kept = {one.topic: (one.first_seq, one.last_seq) for one in await journal.topics("#")}
        self.assertEqual(kept, {"room.a": (8, 10), "room.b": (1, 10), "user.x": (2, 10)})
        self.assertEqual(seqs(await journal.read(["room.a"], after=0, limit=9)), [("room.a", n) for n in (8, 9, 10)])

    async def test_trim_by_age(self) -> None:
        """Age is since the recording, whatever time an event gives itself."""
        journal, lease = await self.begin(event("a", "1", time_ms=0), event("b", "1", time_ms=self.time_ms * 2))
        rules = [Retention("#", max_age_ms=HOUR_MS)]
        self.assertEqual(await journal.trim(rules), 0)
        self.time_ms += HOUR_MS // 2
        await journal.append(lease, [event("a", "2", time_ms=0)])
        self.assertEqual(await journal.trim(rules), 0)
        self.time_ms += HOUR_MS // 2
        self.assertEqual(await journal.trim(rules), 2)
        self.assertEqual(seqs(await journal.read(["#"], after=0, limit=9)), [("a", 2)])
        self.time_ms += HOUR_MS // 2
        self.assertEqual(await journal.trim(rules), 1)

    async def test_trimmed_is_known_for_a_day(self) -> None:
        """A copy of an event that has gone is still known for a day, and is a new event after it."""
        journal, lease = await self.fill("a", 3)
        await journal.trim([Retention("#", keep=1)])
        await journal.erase("a")
        self.time_ms += DAY_MS - 1
        await journal.trim([])
        self.assertEqual(len((await journal.append(lease, [event("a", "0"), event("a", "2")])).known), 2)
        self.time_ms += 1
        await journal.trim([])
        self.assertEqual(seqs(await journal.append(lease, [event("a", "0"), event("a", "2")])), [("a", 4), ("a", 5)])

    # -- followers ----------------------------------------------------------------------------------------------------

    async def test_followers(self) -> None:
        """A follower begins at the head, and moves with what it did, or not at all."""
        journal, lease = await self.fill("a", 2)
        self.assertEqual(await journal.follower("rules"), 2)
        await journal.append(lease, [event("a", "x")])
        self.assertEqual(await journal.follower("rules"), 2)
        self.assertTrue(await self.write(lambda transaction: journal.advance(transaction, "rules", 2, 3)))
        self.assertFalse(await self.write(lambda transaction: journal.advance(transaction, "rules", 2, 3)))
        self.assertEqual((await journal.follower("rules"), await journal.follower("other")), (3, 3))
