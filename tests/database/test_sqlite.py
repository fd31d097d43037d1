"""What is special about SQLite: joined transactions, full disks, locks, and a process that is killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.database import Database, Transaction
from msgd.errors import DatabaseUnavailable, Overloaded
from tests.database.deterministic import Stepped, same_thread

WRITER = "sqlite-writer"
TABLE = "CREATE TABLE IF NOT EXISTS words (word TEXT UNIQUE)"


def prepare(transaction: Transaction) -> None:
    transaction.execute(text(TABLE))


def add(word: str) -> Callable[[Transaction], int]:
    """A change that adds a word and returns how many there are then."""

    def change(transaction: Transaction) -> int:
        transaction.execute(text("INSERT INTO words VALUES (:word)"), {"word": word})
        return count(transaction)

    return change


def count(transaction: Transaction) -> int:
    found: int = transaction.execute(text("SELECT count(*) FROM words")).scalar_one()
    return found


def word_of_a_megabyte(transaction: Transaction) -> None:
    transaction.execute(text("INSERT INTO words VALUES (:word)"), {"word": "w" * 1_000_000})


def fill_the_disk(transaction: Transaction) -> None:
    """From now on the file does not grow: SQLite says so as it does when the disk is full."""
    pages = transaction.exec_driver_sql("PRAGMA page_count").scalar_one()
    transaction.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")


def make_room(transaction: Transaction) -> None:
    transaction.exec_driver_sql("PRAGMA max_page_count = 1000000")


class JoinedTests(SynchronousTestCase):
    """Step by step: the threads run when the test says so."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "test.sqlite3"
        self.threads = Stepped()
        self.database = Database(f"sqlite:///{self.path}", reactor=same_thread, prepare=prepare, workers=self.threads)
        starting = Deferred.fromCoroutine(self.database.start())
        self.threads.run()
        self.successResultOf(starting)

    def tearDown(self) -> None:
        stopping = Deferred.fromCoroutine(self.database.stop())
        self.threads.run()
        self.successResultOf(stopping)

    def write(self, *words: str) -> list[Deferred[int]]:
        return [Deferred.fromCoroutine(self.database.write(add(word))) for word in words]

    def stored(self) -> int:
        """What another connection sees: what is committed."""
        with sqlite3.connect(self.path) as connection:
            return int(connection.execute("SELECT count(*) FROM words").fetchone()[0])

    def test_joined(self) -> None:
        """Changes that arrive while one is written share the next transaction, each seeing those before it."""
        results = self.write("a", "b", "c", "d")
        self.threads.step(WRITER)
        self.assertEqual((self.stored(), self.successResultOf(results[0])), (1, 1))
        for result in results[1:]:
            self.assertNoResult(result)
        self.threads.step(WRITER)
        self.assertEqual(self.stored(), 4)
        self.assertEqual([self.successResultOf(result) for result in results[1:]], [2, 3, 4])

    def test_failure_among_joined(self) -> None:
        """Of changes that share a transaction, one that fails is rolled back by itself."""
        first, good, bad, better = self.write("a", "b", "a", "c")
        self.threads.run()
        self.assertEqual([self.successResultOf(result) for result in (first, good, better)], [1, 2, 3])
        self.failureResultOf(bad)
        self.assertEqual(self.stored(), 3)

    def test_cancelled_before_it_began(self) -> None:
        """A change whose caller gave up before its turn is not performed."""
        first, second, third = self.write("a", "b", "c")
        second.cancel()
        self.threads.run()
        self.failureResultOf(second, CancelledError)
        self.assertEqual([self.successResultOf(result) for result in (first, third)], [1, 2])

    def test_cancelled_under_way(self) -> None:
        """A change that has begun goes on without its caller."""
        (first,) = self.write("a")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.threads.run()
        self.assertEqual(self.stored(), 1)


class LimitsTests(TestCase):
    """Real threads, real locks."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "test.sqlite3"

    async def opened(self, options: str = "") -> Database:
        database = Database(f"sqlite:///{self.path}{options}", reactor=reactor, prepare=prepare)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def test_full_disk(self) -> None:
        """A full disk is Overloaded with a time to come back, and passes when there is room again."""
        database = await self.opened()
        await database.write(fill_the_disk)
        with self.assertRaises(Overloaded) as caught:
            await database.write(word_of_a_megabyte)
        self.assertGreater(caught.exception.retry_after or 0, 0)
        await database.write(make_room)
        await database.write(word_of_a_megabyte)
        self.assertEqual(await database.read(count), 1)

    async def test_full_disk_among_joined(self) -> None:
        """What shares the transaction with a change that fills the disk either is stored, or fails as unavailable."""
        database = await self.opened()
        await database.write(fill_the_disk)
        changes: list[Callable[[Transaction], Any]] = [add("a"), add("b"), word_of_a_megabyte, add("c")]
        results = await gatherResults(
            [
                Deferred.fromCoroutine(database.write(change)).addErrback(lambda failure: failure.value)
                for change in changes
            ]
        )
        self.assertIsInstance(results[2], Overloaded)
        stored = sum(not isinstance(result, Exception) for result in results)
        self.assertEqual(await database.read(count), stored)
        for result in results:
            if isinstance(result, Exception):
                self.assertIsInstance(result, DatabaseUnavailable | Overloaded)

    async def test_lock_of_another_process(self) -> None:
        """A lock held longer than we wait is DatabaseUnavailable; readers are not held up by it."""
        database = await self.opened("?timeout=0.05")
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        with self.assertRaises(DatabaseUnavailable):
            await database.write(add("a"))
        self.assertEqual(await database.read(count), 0)
        other.execute("ROLLBACK")
        self.assertEqual(await database.write(add("a")), 1)

    async def test_settings(self) -> None:
        """Every connection writes ahead, syncs each commit and checks foreign keys."""
        database = await self.opened()

        def settings(transaction: Transaction) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [transaction.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

        full = 2
        self.assertEqual(await database.read(settings), ["wal", full, 1])
        self.assertEqual(await database.write(settings), ["wal", full, 1])


class KilledTests(TestCase):
    def test_kill_9(self) -> None:
        """What a write has returned is there after a kill -9, and nothing half done."""
        path = Path(self.mktemp()).absolute() / "test.sqlite3"
        told = 0
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.database.writing", str(path)],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            assert process.stdout is not None
            with process.stdout:
                for _ in range(200):
                    told = int(process.stdout.readline())
                process.send_signal(signal.SIGKILL)
                told = max([told, *(int(line) for line in process.stdout if line.endswith(b"\n"))])
            process.wait()
            with sqlite3.connect(path) as connection:
                numbers = [row[0] for row in connection.execute("SELECT number FROM pairs ORDER BY number")]
                halves = connection.execute("SELECT count(*) FROM pairs").fetchone()[0]
            self.assertGreaterEqual(max(numbers), told)
            self.assertEqual(numbers, sorted(list(range(max(numbers) + 1)) * 2))
            self.assertEqual(halves % 2, 0)
