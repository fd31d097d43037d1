"""The journal's contract on both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.errors import DatabaseUnavailable
from msgd.journal.sql import SQLJournal
from tests.contract.journal import JournalCases
from tests.contract.journal_base import event, seqs
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
    def url(self) -> str:
        return postgres.fresh_database(self)
