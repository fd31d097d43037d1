"""What Database promises, on each of the databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.errors import ConfigError, DatabaseUnavailable
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

_tables = MetaData()
words = Table("words", _tables, Column("id", BigInteger, primary_key=True), Column("word", Text, unique=True))


T = TypeVar("T")
Change = Callable[[Transaction], Any]

PATIENCE_S = 60.0
"""For a thread that has nothing left to do to end, on a busy machine."""


def add(number: int, word: str) -> Callable[[Transaction], int]:
    """A change that adds a word and returns how many there are then."""

    def change(transaction: Transaction) -> int:
        transaction.execute(insert(words).values(id=number, word=word))
        return count(transaction)

    return change


def count(transaction: Transaction) -> int:
    return transaction.execute(select(func.count()).select_from(words)).scalar_one()


class DatabaseCases(_TestCase):
    """Mixed into a TestCase that tells the URL."""

    def url(self) -> str:
        raise NotImplementedError

    async def database(self) -> Database:
        database = Database(self.url(), reactor=reactor, threads=3, prepare=_tables.create_all)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def test_write_then_read(self) -> None:
        """What a write returned is what it computed, and a read that begins after it sees it."""
        database = await self.database()
        self.assertEqual(await database.write(add(1, "one")), 1)
        self.assertEqual(await database.read(count), 1)

    async def test_failed_change_is_rolled_back_alone(self) -> None:
        """A change that raises leaves nothing behind and its error reaches its caller; its neighbours commit."""
        database = await self.database()

        def bad(transaction: Transaction) -> None:
            add(50, "bad")(transaction)
            raise LookupError("on purpose")

        changes: list[Change] = [add(n, f"word {n}") for n in range(10)]
        changes.insert(5, bad)
        results = await outcomes_of(database, changes)
        self.assertEqual([type(result) for result in results].count(LookupError), 1)
        self.assertIsInstance(results[5], LookupError)
        self.assertEqual(await database.read(count), 10)

    async def test_failed_statement_is_rolled_back_alone(self) -> None:
        """A statement that breaks a constraint fails its change with IntegrityError, and no other."""
        database = await self.database()
        results = await outcomes_of(database, [add(1, "same"), add(2, "same"), add(3, "other")])
        self.assertEqual(sum(isinstance(result, IntegrityError) for result in results), 1)
        self.assertEqual(await database.read(count), 2)

    async def test_read_cannot_write(self) -> None:
        """A query that writes fails as a mistake, which no retry mends, and changes nothing."""
        database = await self.database()
        with self.assertRaises(DBAPIError):
            await database.read(add(1, "one"))
        self.assertEqual(await database.read(count), 0)

    async def test_read_is_one_snapshot(self) -> None:
        """A query sees one state of the database, whatever is committed while it runs."""
        database = await self.database()
        between, go_on = threading.Event(), threading.Event()

        def twice(transaction: Transaction) -> tuple[int, int]:
            first = count(transaction)
            between.set()
            go_on.wait(30)
            return first, count(transaction)

        reading = Deferred.fromCoroutine(database.read(twice))

        def after_first_look(transaction: Transaction) -> None:
            between.wait(30)
            add(1, "one")(transaction)

        await database.write(after_first_look)
        go_on.set()
        self.assertEqual(await reading, (0, 0))
        self.assertEqual(await database.read(count), 1)

    async def test_work_leaves_the_reactor_thread(self) -> None:
        """Queries and changes run in threads, their callers go on in the reactor's."""
        database = await self.database()
        here = threading.get_ident()
        self.assertNotEqual(await database.read(lambda _: threading.get_ident()), here)
        self.assertNotEqual(await database.write(lambda _: threading.get_ident()), here)
        self.assertEqual(threading.get_ident(), here)

    async def test_group(self) -> None:
        """Hundreds of requests of a group each get their own result, in few transactions."""
        database = await self.database()
        transactions = 0

        def change(transaction: Transaction, requests: Sequence[int]) -> list[str | Exception]:
            nonlocal transactions
            transactions += 1
            transaction.execute(insert(words), [{"id": n, "word": f"word {n}"} for n in requests])
            return [f"done {n}" for n in requests]

        group = database.group(change, limit=100)
        results = await gatherResults([Deferred.fromCoroutine(group(n)) for n in range(500)])
        self.assertEqual(results, [f"done {n}" for n in range(500)])
        self.assertEqual(await database.read(count), 500)
        self.assertLess(transactions, 10)

    async def test_group_with_a_bad_request(self) -> None:
        """A request that breaks its batch fails alone: the others of its batch are tried again without it."""
        database = await self.database()

        def change(transaction: Transaction, requests: Sequence[int]) -> list[int | Exception]:
            transaction.execute(insert(words), [{"id": n % 19, "word": f"word {n % 19}"} for n in requests])
            return list(requests)

        group = database.group(change)
        results = await gatherResults([as_value(Deferred.fromCoroutine(group(n))) for n in range(20)])
        self.assertEqual(results[:19], list(range(19)))
        self.assertIsInstance(results[19], IntegrityError)

    async def test_stop_finishes_what_was_asked_for(self) -> None:
        """What is under way at a stop is performed, what comes later is refused, a second stop is harmless."""
        database = await self.database()
        asked = [Deferred.fromCoroutine(database.write(add(n, f"word {n}"))) for n in range(20)]
        reading = Deferred.fromCoroutine(database.read(count))
        stopping = Deferred.fromCoroutine(database.stop())
        with self.assertRaises(DatabaseUnavailable):
            await database.write(add(99, "late"))
        await stopping
        await gatherResults(asked)
        await reading
        await database.stop()
        with self.assertRaises(DatabaseUnavailable):
            await database.read(count)
        await database.start()
        self.assertEqual(await database.read(count), 20)

    async def test_cancelled_caller(self) -> None:
        """A caller that was cancelled gets CancelledError, and the database goes on with the rest."""
        database = await self.database()
        writing = [Deferred.fromCoroutine(database.write(add(n, f"word {n}"))) for n in range(5)]
        writing[4].cancel()
        results = await gatherResults([as_value(one) for one in writing])
        self.assertIsInstance(results[4], CancelledError)
        self.assertEqual(await database.read(lambda transaction: count(transaction) >= 4), True)

    async def test_many_processes_may_start_at_once(self) -> None:
        """Several databases that start at the same moment on the same empty one all find it ready."""
        url = self.url()
        databases = [Database(url, reactor=reactor, threads=1) for _ in range(4)]
        await gatherResults([Deferred.fromCoroutine(database.start()) for database in databases])
        await gatherResults([Deferred.fromCoroutine(database.stop()) for database in databases])

    async def test_failed_start_can_be_repeated(self) -> None:
        """A start that failed leaves no threads behind, and a later one may succeed."""
        fail = True

        def prepare(transaction: Transaction) -> None:
            _tables.create_all(transaction)
            if fail:
                raise LookupError("on purpose")

        database = Database(self.url(), reactor=reactor, prepare=prepare)
        before = set(threading.enumerate())

        def left() -> list[threading.Thread]:
            """The threads that do not end by themselves."""
            new = [thread for thread in threading.enumerate() if thread not in before]
            for thread in new:
                thread.join(PATIENCE_S)
            return [thread for thread in new if thread.is_alive()]

        with self.assertRaises(LookupError):
            await database.start()
        self.assertEqual(left(), [])
        fail = False
        await database.start()
        self.assertEqual(await database.write(add(1, "one")), 1)
        await database.stop()
        self.assertEqual(left(), [])


class SQLiteTests(DatabaseCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"

    def test_dialect(self) -> None:
        """The dialect is known before the database is opened."""
        self.assertEqual(Database(self.url(), reactor=reactor).dialect, "sqlite")


class PostgreSQLTests(DatabaseCases, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)

    def test_dialect(self) -> None:
        """The dialect is known before the database is opened."""
        self.assertEqual(Database(self.url(), reactor=reactor).dialect, "postgresql")


class URLTests(TestCase):
    def test_bad_urls(self) -> None:
        """A URL that names no database msgd can use is a ConfigError that says what would be one."""
        for url in ("msgd.sqlite3", "sqlite://", "sqlite:///:memory:", "mysql://root@localhost/msgd", ""):
            with self.subTest(url=url):
                with self.assertRaises(ConfigError) as caught:
                    Database(url, reactor=reactor)
                self.assertEqual(caught.exception.where, "database.url")

    def test_stop_without_start(self) -> None:
        """Stopping a database that was never started does nothing."""
        self.successResultOf(Deferred.fromCoroutine(Database("sqlite:///never/made", reactor=reactor).stop()))
        self.assertFalse(Path("never").exists())


async def outcomes_of(database: Database, changes: Sequence[Change]) -> list[object]:
    """What became of each change, written all at once: its value or its error."""
    return await gatherResults([as_value(Deferred.fromCoroutine(database.write(change))) for change in changes])


def as_value(result: Deferred[T]) -> Deferred[T | Any]:
    """Fires with the error where ``result`` fails with it."""
    return result.addErrback(lambda failure: failure.value)
