"""The journal's contract on both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.journal.sql import SQLJournal
from tests.contract.journal import JournalCases
from tests.servers import postgres


class _OnDatabase(JournalCases):
    def url(self) -> str:
        raise NotImplementedError

    async def make(self) -> SQLJournal:
        self.database = Database(self.url(), reactor=reactor, threads=2)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        await self.database.start()
        return SQLJournal(self.database, now_ms=self.now_ms)

    async def write(self, change: Callable[[Transaction], Any]) -> Any:
        return await self.database.write(change)


class SQLiteTests(_OnDatabase, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"


class PostgreSQLTests(_OnDatabase, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)
