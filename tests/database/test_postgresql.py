"""What is special about PostgreSQL: a server that goes away and comes back, and changes that meet."""

from __future__ import annotations

import threading

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.database.direct import later
from msgd.errors import DatabaseUnavailable, Overloaded
from tests.servers import postgres


def prepare(transaction: Transaction) -> None:
    transaction.execute(text("CREATE TABLE IF NOT EXISTS words (id INTEGER PRIMARY KEY, word TEXT)"))


def count(transaction: Transaction) -> int:
    found: int = transaction.execute(text("SELECT count(*) FROM words")).scalar_one()
    return found


def add(transaction: Transaction) -> None:
    transaction.execute(text("INSERT INTO words SELECT coalesce(max(id), 0) + 1, 'word' FROM words"))


def add_at_once(transaction: Transaction) -> None:
    later(transaction, "INSERT INTO words SELECT coalesce(max(id), 0) + 1, 'word' FROM words")


def two_empty_words(transaction: Transaction) -> None:
    transaction.execute(text("INSERT INTO words VALUES (1, ''), (2, '')"))


class PostgreSQLTests(TestCase):
    async def opened(self) -> Database:
        database = Database(postgres.fresh_database(self), reactor=reactor, prepare=prepare)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        self.addCleanup(postgres.cluster().start)
        return database

    async def test_restart(self) -> None:
        """After the server was restarted the connections in the pool are dead, and nobody notices."""
        database = await self.opened()
        await gatherResults([Deferred.fromCoroutine(database.read(count)) for _ in range(8)])
        await database.write(add)
        postgres.cluster().restart()
        await database.write(add)
        postgres.cluster().restart()
        counts = await gatherResults([Deferred.fromCoroutine(database.read(count)) for _ in range(8)])
        self.assertEqual(counts, [2] * 8)

    async def test_restart_before_one_round_trip(self) -> None:
        """Nor if the change is sent as a whole, commit included, so that nothing would tell whether it happened."""
        database = await self.opened()
        await database.write(add_at_once)
        postgres.cluster().restart()
        await database.write(add_at_once)
        self.assertEqual(await database.read(count), 2)

    async def test_killed_server(self) -> None:
        """While the server is gone everything is DatabaseUnavailable; once it is back, it goes on; nothing is lost."""
        database = await self.opened()
        await database.write(add)
        postgres.cluster().kill()
        for _ in range(3):
            with self.assertRaises(DatabaseUnavailable):
                await database.write(add)
            with self.assertRaises(DatabaseUnavailable):
                await database.read(count)
        postgres.cluster().start()
        await database.write(add)
        self.assertEqual(await database.read(count), 2)

    async def test_server_killed_in_mid_change(self) -> None:
        """A change that was under way when the server died is rolled back, and tells that it may be repeated."""
        database = await self.opened()

        def change(transaction: Transaction) -> None:
            add(transaction)
            postgres.cluster().kill()
            add(transaction)

        with self.assertRaises(DatabaseUnavailable):
            await database.write(change)
        postgres.cluster().start()
        self.assertEqual(await database.read(count), 0)

    async def test_connection_cut_in_mid_change(self) -> None:
        """A change that loses its connection before the commit is run again on another one, once effective."""
        database = await self.opened()
        runs = []

        def change(transaction: Transaction) -> None:
            add(transaction)
            runs.append(transaction.execute(text("SELECT pg_backend_pid()")).scalar_one())
            if len(runs) == 1:
                transaction.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        await database.write(change)
        self.assertEqual(len(set(runs)), 2)
        self.assertEqual(await database.read(count), 1)

    async def test_deadlock(self) -> None:
        """Two changes that lock each other out both succeed: the one that the server gives up is run again."""
        database = await self.opened()
        await database.write(two_empty_words)
        met = threading.Barrier(2)
        runs = []

        def change(first: int, second: int) -> Deferred[None]:
            def touch(transaction: Transaction) -> None:
                runs.append(first)
                for number in (first, second):
                    transaction.execute(
                        text("UPDATE words SET word = word || :letter WHERE id = :id"),
                        {"id": number, "letter": str(first)},
                    )
                    if number == first and runs.count(first) == 1:
                        met.wait(30)

            return Deferred.fromCoroutine(database.write(touch))

        await gatherResults([change(1, 2), change(2, 1)])
        self.assertGreater(len(runs), 2)
        words = await database.read(
            lambda transaction: transaction.execute(text("SELECT word FROM words")).scalars().all()
        )
        self.assertEqual([sorted(word) for word in words], [["1", "2"]] * 2)

    async def test_what_the_server_s_errors_mean(self) -> None:
        """Errors that pass are DatabaseUnavailable, a full disk is Overloaded, a mistake stays what it is."""
        database = await self.opened()

        async def failing(state: str) -> None:
            statement = f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}'; END $$"
            await database.write(lambda transaction: transaction.execute(text(statement)))

        meanings: list[tuple[type[Exception], list[str]]] = [
            (DatabaseUnavailable, ["08006", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P03", "25006"]),
            (Overloaded, ["53100"]),
            (DBAPIError, ["23505", "22P02", "42601", "42P01"]),
        ]
        for meaning, states in meanings:
            for state in states:
                with self.assertRaises(meaning, msg=state):
                    await failing(state)
        self.assertEqual(await database.read(count), 0)

    async def test_server_that_is_not_there(self) -> None:
        """A start without a server is DatabaseUnavailable, does not show the password, and may be repeated."""
        url = postgres.fresh_database(self)
        self.addCleanup(postgres.cluster().start)
        postgres.cluster().stop()
        database = Database(url, reactor=reactor, prepare=prepare)
        with self.assertRaises(DatabaseUnavailable) as caught:
            await database.start()
        password = url.partition("://")[2].partition(":")[2].partition("@")[0]
        self.assertNotIn(password, caught.exception.message + caught.exception.where)
        postgres.cluster().start()
        await database.start()
        self.assertEqual(await database.read(count), 0)
        await database.stop()

    async def test_socket(self) -> None:
        """A Unix socket will do as well."""
        server = postgres.cluster()
        name = server.create_database()
        self.addCleanup(server.drop_database, name)
        database = Database(server.socket_url(name), reactor=reactor, prepare=prepare)
        await database.start()
        self.assertEqual(await database.read(count), 0)
        await database.stop()
