"""What every journal does (msgd.journal.interface): numbers, and the one who gives them."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.database import Transaction
from msgd.errors import DatabaseUnavailable, InvalidInput, LeaseLost
from msgd.messages.events import Event, Recorded
from tests.contract.journal_base import TTL_MS, JournalBase, event, seqs


class WritingCases(JournalBase):
    """The part about numbers, and the one who gives them."""

    # -- numbers ------------------------------------------------------------------------------------------------------

    async def test_numbers(self) -> None:
        """Events are numbered in the order given: seq by topic from 1, pos over all."""
        journal, lease = await self.begin()
        first = await journal.append(lease, [event("a", "1"), event("b", "1"), event("a", "2")])
        second = await journal.append(lease, [event("b", "2"), event("c", "1")])
        self.assertEqual(seqs(first), [("a", 1), ("b", 1), ("a", 2)])
        self.assertEqual(seqs(second), [("b", 2), ("c", 1)])
        positions = [one.pos for one in [*first.recorded, *second.recorded]]
        self.assertEqual(positions, sorted(set(positions)))
        self.assertEqual((await journal.head()).pos, positions[-1])

    async def test_what_is_stored_comes_back(self) -> None:
        """Every attribute survives, and the data byte for byte."""
        odd = event(
            "room.kitchen",
            "ид \U0001f600",
            type="said",
            source="x\ny",
            time_ms=-1,
            data=b'{ "a" : 1.50, "a":\t"\\u0000" }',
            run=3,
            token=1 << 40,
        )
        journal, _ = await self.begin(odd, event("b", "", source="", data=b""))
        page = await journal.read(["#"], after=0, limit=10)
        self.assertEqual([one.event for one in page.events], [odd, event("b", "", source="", data=b"")])

    async def test_empty_batch(self) -> None:
        """A batch without events stores nothing, and still says how far live push is."""
        journal, lease = await self.begin(event("a", "1"))
        appended = await journal.append(lease, [], live_pos=1)
        self.assertEqual(seqs(appended), [])
        self.assertEqual((await journal.head()).live_pos, 1)

    async def test_known(self) -> None:
        """An event of the same topic, source and id is stored once, in one batch or over many."""
        journal, lease = await self.begin(event("a", "1"))
        again = event("a", "1", data=b"2")
        appended = await journal.append(
            lease, [again, event("a", "2"), event("a", "2"), event("b", "1"), event("a", "1", source="bob")]
        )
        self.assertEqual(seqs(appended), [("a", 2), ("b", 1), ("a", 3)])
        self.assertEqual(appended.known, [again, event("a", "2")])

    async def test_key_has_edges(self) -> None:
        """Source and id are told apart: "a" and "bc" are not "ab" and "c"."""
        journal, lease = await self.begin(event("t", "bc", source="a"))
        appended = await journal.append(lease, [event("t", "c", source="ab"), event("t", "abc", source="")])
        self.assertEqual(len(appended.recorded), 2)

    async def test_stale(self) -> None:
        """On a job's topic what comes with a lower token than the highest seen is dropped."""
        journal, lease = await self.begin(event("job.x", "1", token=2))
        old = event("job.x", "2", token=1)
        appended = await journal.append(lease, [old, event("job.x", "3", token=2), event("job.x", "4", token=3)])
        self.assertEqual(appended.stale, [old])
        self.assertEqual(seqs(appended), [("job.x", 2), ("job.x", 3)])
        self.assertEqual(len((await journal.append(lease, [event("job.x", "5", token=2)])).stale), 1)

    async def test_known_event_raises_the_fence(self) -> None:
        """A repeated step brings known events under a new token: from then on the old one is refused."""
        journal, lease = await self.begin(event("job.x", "1", token=1))
        appended = await journal.append(lease, [event("job.x", "1", token=2), event("job.x", "2", token=1)])
        self.assertEqual((len(appended.known), len(appended.stale), len(appended.recorded)), (1, 1, 0))
        self.assertEqual(len((await journal.append(lease, [event("job.x", "3", token=1)])).stale), 1)

    async def test_outbox_raises_the_fence_and_never_falls_to_it(self) -> None:
        """An event out of the outbox is stored whatever its token, and fences the workers before it."""
        journal, lease = await self.begin(event("job.x", "1", token=5))
        late = await journal.append(lease, [event("job.x", "2", token=4, outbox=1)])
        self.assertEqual(seqs(late), [("job.x", 2)])
        end = await journal.append(lease, [event("job.x", "3", token=6, outbox=2), event("job.x", "4", token=5)])
        self.assertEqual((seqs(end), len(end.stale)), ([("job.x", 3)], 1))

    async def test_no_fence_elsewhere(self) -> None:
        """Events without a token, and topics that are no job's, know no fence."""
        journal, lease = await self.begin(event("job.x", "1", token=5), event("room.a", "1", token=5))
        appended = await journal.append(lease, [event("job.x", "2"), event("room.a", "2", token=1)])
        self.assertEqual(len(appended.recorded), 2)

    async def test_refused_data(self) -> None:
        """What the database cannot hold is InvalidInput, nothing of its batch is stored, and the journal goes on."""
        journal, lease = await self.begin()
        for bad in (
            event("a", "\0"),
            event("a", "1", type="\ud800"),
            event("a", "1", source="x\0"),
            event("a", "1", time_ms=1 << 63),
            event("a", "1", run=1 << 64),
        ):
            with self.assertRaises(InvalidInput):
                await journal.append(lease, [event("a", "good"), bad])
        self.assertEqual(seqs(await journal.append(lease, [event("a", "good")])), [("a", 1)])

    async def test_within(self) -> None:
        """The companion write sees all events given and those recorded, and its result comes back; what it saw in a
        transaction that had to be begun anew counts for nothing."""
        journal, lease = await self.begin(event("a", "1"))
        seen: list[tuple[Sequence[Event], Sequence[Recorded]]] = []

        def within(_: Transaction, events: Sequence[Event], recorded: Sequence[Recorded]) -> str:
            seen.append((events, recorded))
            return f"written {len(seen)}"

        given = [event("a", "1"), event("a", "2")]
        appended = await journal.append(lease, given, within=within)
        self.assertEqual(appended.within, f"written {len(seen)}")
        self.assertEqual(seen[-1], (given, appended.recorded))
        self.assertEqual(seqs(appended), [("a", 2)])

    async def test_within_fails(self) -> None:
        """If the companion write fails nothing is stored, and the numbers are given to the next batch."""
        journal, lease = await self.begin(event("a", "1"))

        def within(*_: object) -> None:
            raise DatabaseUnavailable("no room")

        with self.assertRaises(DatabaseUnavailable):
            await journal.append(lease, [event("a", "2"), event("new", "1")], within=within)
        self.assertEqual(seqs(await journal.read(["#"], after=0, limit=10)), [("a", 1)])
        appended = await journal.append(lease, [event("other", "1"), event("a", "2"), event("new", "1")])
        self.assertEqual(seqs(appended), [("other", 1), ("a", 2), ("new", 1)])

    async def test_many_topics_at_once(self) -> None:
        """A batch of 500 topics is numbered as one of 1 is."""
        journal, lease = await self.begin()
        for turn in (1, 2):
            batch = [event(f"t.{number}", str(turn)) for number in range(500)]
            appended = await journal.append(lease, batch)
            self.assertEqual({one.seq for one in appended.recorded}, {turn})

    # -- the lease ----------------------------------------------------------------------------------------------------

    async def test_one_writer(self) -> None:
        """Nobody gets a lease that somebody holds, until it has expired; the old holder can write no more."""
        journal, lease = await self.begin()
        self.assertIsNone(await journal.acquire("two", ttl_ms=TTL_MS))
        self.time_ms += TTL_MS
        other = await journal.acquire("two", ttl_ms=TTL_MS)
        assert other is not None
        self.assertGreater(other.number, lease.number)
        for attempt in (
            journal.append(lease, [event("a", "1")]),
            journal.renew(lease, ttl_ms=TTL_MS),
            journal.lived(lease, 1),
        ):
            with self.assertRaises(LeaseLost):
                await attempt
        self.assertEqual(len((await journal.append(other, [event("a", "1")])).recorded), 1)

    async def test_renewed(self) -> None:
        """A lease that is renewed does not expire; one that has, but that nobody took, still counts."""
        journal, lease = await self.begin()
        self.time_ms += TTL_MS - 1
        await journal.renew(lease, ttl_ms=TTL_MS)
        self.time_ms += TTL_MS - 1
        self.assertIsNone(await journal.acquire("two", ttl_ms=TTL_MS))
        self.time_ms += TTL_MS
        await journal.append(lease, [event("a", "1")])

    async def test_released(self) -> None:
        """A released lease is free at once; releasing one that is lost harms nobody."""
        journal, lease = await self.begin()
        await journal.release(lease)
        other = await journal.acquire("two", ttl_ms=TTL_MS)
        assert other is not None
        await journal.release(lease)
        await journal.append(other, [event("a", "1")])

    async def test_own_lease_again(self) -> None:
        """Its holder gets the lease again under a new number, and the old number is refused."""
        journal, lease = await self.begin()
        again = await journal.acquire("one", ttl_ms=TTL_MS)
        assert again is not None
        with self.assertRaises(LeaseLost):
            await journal.append(lease, [event("a", "1")])
        await journal.append(again, [event("a", "1")])

    async def test_takeover_goes_on_numbering(self) -> None:
        """Whoever comes back after another wrote takes up that one's numbers, not those it remembers."""
        journal, lease = await self.begin(event("a", "1"), event("job.x", "1", token=1))
        await journal.release(lease)
        successor = await self.another()
        other = await successor.acquire("two", ttl_ms=TTL_MS)
        assert other is not None
        await successor.append(other, [event("a", "2"), event("b", "1"), event("job.x", "2", token=2)])
        await successor.release(other)
        back = await journal.acquire("one", ttl_ms=TTL_MS)
        assert back is not None
        appended = await journal.append(back, [event("a", "3"), event("b", "2"), event("job.x", "3", token=1)])
        self.assertEqual((seqs(appended), len(appended.stale)), ([("a", 3), ("b", 2)], 1))

    async def test_live_pos(self) -> None:
        """Live push's position is kept with an append or by itself, and never goes back."""
        journal, lease = await self.begin(event("a", "1"), event("a", "2"))
        await journal.append(lease, [event("a", "3")], live_pos=2)
        self.assertEqual((await journal.head()).live_pos, 2)
        await journal.lived(lease, 3)
        await journal.lived(lease, 1)
        self.assertEqual((await journal.head()).live_pos, 3)
