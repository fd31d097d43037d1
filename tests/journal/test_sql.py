"""The journal's contract on both databases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import update
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.database.direct import later
from msgd.database.pipeline import Pipeline
from msgd.database.shortcut import Asked, Shortcut
from msgd.errors import DatabaseUnavailable, InvalidInput, LeaseLost
from msgd.journal.interface import Lease
from msgd.journal.sql import SQLJournal
from msgd.journal.tables import head
from msgd.messages.events import Event
from tests.contract.journal import JournalCases
from tests.contract.journal_base import TTL_MS, event, seqs
from tests.servers import postgres

T = TypeVar("T")


class Forgetful(Database):
    """A database whose answers get lost when the test says so, after the commit."""

    losing = False

    async def write(self, change: Callable[[Transaction], T]) -> T:
        answer = await super().write(change)
        if self.losing:
            raise DatabaseUnavailable("the connection was lost during the commit")
        return answer


class _OnDatabase(JournalCases):
    def url(self) -> str:
        raise NotImplementedError

    async def make(self) -> SQLJournal:
        self.database = Forgetful(self.url(), reactor=reactor, threads=2)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        await self.database.start()
        return SQLJournal(self.database, now_ms=self.now_ms)

    async def another(self) -> SQLJournal:
        return SQLJournal(self.database, now_ms=self.now_ms)

    async def write(self, change: Callable[[Transaction], Any]) -> Any:
        return await self.database.write(change)

    async def test_lost_answer(self) -> None:
        """A batch that was committed although its answer was lost is known when it is tried again, and counted on."""
        journal, lease = await self.begin(event("a", "1"))
        self.database.losing = True
        with self.assertRaises(DatabaseUnavailable):
            await journal.append(lease, [event("a", "2"), event("b", "1")])
        self.database.losing = False
        appended = await journal.append(lease, [event("a", "2"), event("b", "1"), event("a", "3"), event("b", "2")])
        self.assertEqual((seqs(appended), len(appended.known)), ([("a", 3), ("b", 2)], 2))


class SQLiteTests(_OnDatabase, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"


class PostgreSQLTests(_OnDatabase, TestCase):
    """There a batch is numbered before the head is asked, and sent as a whole."""

    def url(self) -> str:
        return postgres.fresh_database(self)

    async def trips(self, journal: SQLJournal, lease: Lease, *events: Event) -> int:
        """In how many round trips these are stored."""
        trips: list[int] = []
        send, perform = Pipeline.flush, Shortcut.perform

        def flush(pipeline: Pipeline) -> None:
            if pipeline._waiting:
                trips.append(len(pipeline._waiting))
            send(pipeline)

        async def told(shortcut: Shortcut, change: Callable[[Transaction], T]) -> T:
            trips.append(1)
            try:
                return await perform(shortcut, change)
            except Asked:
                trips.pop()
                raise

        self.patch(Pipeline, "flush", flush)
        self.patch(Shortcut, "perform", told)
        try:
            appended = await journal.append(lease, events)
        finally:
            self.patch(Pipeline, "flush", send)
            self.patch(Shortcut, "perform", perform)
        self.assertEqual(len(appended.recorded) + len(appended.known), len(events))
        return len(trips)

    async def test_one_round_trip(self) -> None:
        """It takes one round trip, if its topics are remembered; after known ones the head is asked once."""
        made, lease = await self.begin(event("a", "1"), event("b", "1"))
        assert isinstance(made, SQLJournal)
        self.assertEqual(await self.trips(made, lease, event("a", "2"), event("b", "2"), event("a", "3")), 1)
        self.assertEqual(await self.trips(made, lease, event("a", "4"), event("c", "1")), 2)
        self.assertEqual(await self.trips(made, lease, event("c", "2")), 1)
        await made.lived(lease, 3)
        self.assertEqual(await self.trips(made, lease, *(event("c", str(number)) for number in range(3, 400))), 2)
        self.assertEqual(await self.trips(made, lease, event("a", "5")), 1)
        self.assertEqual(await self.trips(made, lease, event("a", "5"), event("a", "6")), 3)  # the first in vain
        self.assertEqual(await self.trips(made, lease, event("a", "6")), 2)
        self.assertEqual(await self.trips(made, lease, event("a", "7")), 2)
        self.assertEqual(await self.trips(made, lease, event("a", "8")), 1)
        page = await made.read(["a"], after=0, limit=100)
        self.assertEqual([(one.seq, one.event.id) for one in page.events], [(n, str(n)) for n in range(1, 9)])
        self.assertEqual((await made.head()).live_pos, 3)

    async def test_in_vain(self) -> None:
        """Where the head is not as it was left, nothing is stored before it has been asked."""
        journal, lease = await self.begin(event("a", "1"))
        called: list[int] = []
        moves: dict[str, Any] = {"epoch": "another", "pos": 7, "last_topic": 5}
        for number, (column, value) in enumerate(moves.items(), 2):
            move = update(head).values({column: value})
            await self.write(partial(Transaction.execute, statement=move))
            appended = await journal.append(
                lease, [event("a", str(number))], live_pos=2, within=lambda _, given, new: called.append(new[0].pos)
            )
            self.assertEqual(seqs(appended), [("a", number)])
            self.assertEqual(appended.epoch, (await journal.head()).epoch)
            self.assertEqual(called[-1], appended.recorded[0].pos)
        # The epoch changes nothing of the numbers; and each batch that was in vain told what it had thought.
        self.assertEqual(called, [2, 2, 3, 8, 9, 9])
        self.assertEqual((await journal.head()).live_pos, 2)

    async def test_lease_lost(self) -> None:
        """So it is when another one has the lease; what is remembered is of no use then."""
        journal, lease = await self.begin(event("a", "1"))
        other = await self.another()
        self.time_ms += TTL_MS
        theirs = await other.acquire("two", ttl_ms=TTL_MS)
        assert theirs is not None
        with self.assertRaises(LeaseLost):
            await journal.append(lease, [event("a", "2")])
        self.assertEqual(seqs(await other.append(theirs, [event("a", "2")])), [("a", 2)])
        with self.assertRaises(LeaseLost):
            await journal.append(lease, [event("a", "3")])

    async def test_refused_at_once(self) -> None:
        """What the database refuses is the event's fault, and not taken for a head that has moved."""
        journal, lease = await self.begin(event("a", "1"))
        with self.assertRaises(InvalidInput):
            await journal.append(
                lease, [event("a", "2")], within=lambda transaction, *_: later(transaction, "SELECT 'x'::integer")
            )
        self.assertEqual(seqs(await journal.append(lease, [event("a", "2")])), [("a", 2)])
