"""Changes that only write, on PostgreSQL, made without a thread: whatever they say, whatever becomes of the server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.threadable import isInIOThread
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction, shortcut
from msgd.database.direct import array_of_bytes, later
from msgd.database.failures import sqlstate
from msgd.errors import DatabaseUnavailable
from tests.servers import postgres


def prepare(transaction: Transaction) -> None:
    transaction.execute(text("CREATE TABLE IF NOT EXISTS words (id BIGINT PRIMARY KEY, word BYTEA)"))


def words(transaction: Transaction) -> list[tuple[int, Any]]:
    return [(row[0], row[1]) for row in transaction.execute(text("SELECT id, word FROM words ORDER BY id"))]


def add(number: int, word: bytes | None = b"word") -> Callable[[Transaction], bool]:
    """A change that only writes; returns whether it was made in the reactor's thread."""

    def change(transaction: Transaction) -> bool:
        later(transaction, "INSERT INTO words VALUES (%s::bigint, %b::bytea)", (str(number), word))
        return bool(isInIOThread())

    return change


def conflicting() -> tuple[list[bool], Callable[[Transaction], None]]:
    """A change that the server gives up at the first try, and where it has been tried: in the reactor's thread?"""
    runs: list[bool] = []

    def change(transaction: Transaction) -> None:
        runs.append(bool(isInIOThread()))
        add(1)(transaction)
        if len(runs) == 1:
            later(transaction, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    return runs, change


class ShortcutTests(TestCase):
    timeout = 60

    async def database(self) -> Database:
        """One whose shortcut is open, and which is empty."""
        database = Database(postgres.fresh_database(self), reactor=reactor, prepare=prepare)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        self.addCleanup(postgres.cluster().start)
        await self.opened(database)
        return database

    async def opened(self, database: Database) -> None:
        """It opens when it is wanted first; until then changes are made in a thread."""

        def change(transaction: Transaction) -> bool:
            later(transaction, "DELETE FROM words")
            return bool(isInIOThread())

        while not await database.tell(change):
            pass

    async def test_committed(self) -> None:
        """A change is committed when it returns, again and again, whatever its values are."""
        database = await self.database()
        given = [b"", bytes(range(256)), "Größe".encode(), None]
        for number, word in enumerate(given):
            self.assertTrue(await database.tell(add(number, word)))
            self.assertEqual((await database.read(words))[-1], (number, word))

    async def test_answers(self) -> None:
        """What its statements find is told by the end, as values of Python's; a percent sign stays one."""
        database = await self.database()
        found: list[Any] = []

        def change(transaction: Transaction) -> str:
            later(transaction, "INSERT INTO words SELECT * FROM unnest(%s::bigint[], %b::bytea[])", ("{7,5}", _BYTES))
            query = "SELECT id, id %% 2 = 1, NULL, 'é%%' FROM words WHERE id > %s::bigint"
            later(transaction, query, (6,), then=found.extend)
            later(transaction, "UPDATE words SET word = NULL WHERE id = 5 RETURNING id", then=found.extend)
            return "the end"

        self.assertEqual(await database.tell(change), "the end")
        self.assertEqual(found, [(7, True, None, "é%"), (5,)])
        self.assertEqual(await database.read(words), [(5, None), (7, b"b")])

    async def test_asks(self) -> None:
        """A change that asks is made in a thread, once; what it had said before it asked is said there."""
        database = await self.database()

        def change(transaction: Transaction) -> list[tuple[int, Any]]:
            add(1)(transaction)
            return words(transaction)

        self.assertEqual(await database.tell(change), [(1, b"word")])
        self.assertEqual(await database.read(words), [(1, b"word")])
        self.assertTrue(await database.tell(add(2)))

    async def test_refused(self) -> None:
        """A statement that the server refuses undoes the change, and its error is told; others go on."""
        database = await self.database()
        await database.tell(add(1))

        def change(transaction: Transaction) -> None:
            add(2)(transaction)
            add(1)(transaction)
            add(3)(transaction)

        with self.assertRaises(DBAPIError) as caught:
            await database.tell(change)
        self.assertEqual(sqlstate(caught.exception), "23505")
        await database.tell(add(4))
        self.assertEqual(await database.read(words), [(1, b"word"), (4, b"word")])
        await self.opened(database)

    async def test_mistake(self) -> None:
        """Nor is anything done by a change that fails by itself."""
        database = await self.database()

        def change(transaction: Transaction) -> None:
            add(1)(transaction)
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            await database.tell(change)
        self.assertEqual(await database.read(words), [])
        self.assertTrue(await database.tell(add(1)))

    async def test_mistake_about_an_answer(self) -> None:
        """A mistake in what is told the rows reaches the caller too, after the commit."""
        database = await self.database()

        def mistaken(rows: object) -> None:
            raise ZeroDivisionError

        def change(transaction: Transaction) -> None:
            later(transaction, "INSERT INTO words VALUES (1, NULL) RETURNING id", then=mistaken)

        with self.assertRaises(ZeroDivisionError):
            await database.tell(change)
        self.assertEqual(await database.read(words), [(1, None)])
        self.assertTrue(await database.tell(add(2)))

    async def test_many_statements(self) -> None:
        """The statements that a connection keeps are bounded."""
        database = await self.database()
        self.patch(shortcut, "PREPARED", 5)
        for number in range(10):
            await database.tell(partial(later, text=f"INSERT INTO words VALUES ({number}, NULL)"))
        self.assertEqual(len(await database.read(words)), 10)
        await self.opened(database)

    async def test_at_once(self) -> None:
        """Of several at once one goes without a thread; all are made."""
        database = await self.database()
        told = await gatherResults([Deferred.fromCoroutine(database.tell(add(number))) for number in range(20)])
        self.assertIn(True, told)
        self.assertIn(False, told)
        self.assertEqual([number for number, _ in await database.read(words)], list(range(20)))

    async def test_large(self) -> None:
        """More than a socket takes at once is sent as it takes it, while the reactor goes on."""
        database = await self.database()
        assert database._shortcut is not None
        with socket.socket(fileno=os.dup(database._shortcut.fileno())) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        word = bytes(range(256)) * (1 << 15)
        sent = 0
        write = shortcut.Shortcut.doWrite

        def noted(one: shortcut.Shortcut) -> None:
            nonlocal sent
            sent += 1
            write(one)

        self.patch(shortcut.Shortcut, "doWrite", noted)
        self.assertTrue(await database.tell(add(1, word)))
        self.assertGreater(sent, 3)
        self.assertEqual(await database.read(words), [(1, word)])

    async def test_no_text(self) -> None:
        """What PostgreSQL takes for no text is told as it would tell it, before anything is sent."""
        database = await self.database()
        for text_ in ("a\0b", "\ud800"):
            with self.assertRaises(DataError):
                await database.tell(
                    partial(later, text="INSERT INTO words VALUES (length(%s::text), '')", values=(text_,))
                )
        self.assertTrue(await database.tell(add(1)))
        self.assertEqual(await database.read(words), [(1, b"word")])

    async def test_nothing_stays_open(self) -> None:
        """A connection that is given up leaves no descriptor behind."""
        database = await self.database()
        await database.read(words)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with self.assertRaises(DBAPIError):
                await database.tell(partial(later, text="SELECT 1 / 0"))
            await self.opened(database)
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before + 1)

    async def test_conflict_while_stopping(self) -> None:
        """Who waits while the database is stopped has its change made, also if that takes a second try."""
        database = await self.database()
        runs, change = conflicting()
        told = Deferred.fromCoroutine(database.tell(change))
        await database.stop()
        await told
        await database.start()
        self.assertEqual(runs, [True, False])
        self.assertEqual(await database.read(words), [(1, b"word")])

    async def test_conflict(self) -> None:
        """A change that the server gives up for another's sake is made again."""
        database = await self.database()
        runs, change = conflicting()
        await database.tell(change)
        self.assertEqual(runs, [True, False])
        self.assertEqual(await database.read(words), [(1, b"word")])

    async def test_restart(self) -> None:
        """A server that was restarted meanwhile is not noticed, and in time it is open again."""
        database = await self.database()
        await database.tell(add(1))
        postgres.cluster().restart()
        await database.tell(add(2))
        self.assertEqual([number for number, _ in await database.read(words)], [1, 2])
        await self.opened(database)

    async def test_killed(self) -> None:
        """A change that was under way when the server died tells that this is open; while it is gone, all do so."""
        database = await self.database()

        def change(transaction: Transaction) -> None:
            add(1)(transaction)
            later(transaction, "SELECT pg_sleep(600)")

        told = Deferred.fromCoroutine(database.tell(change))
        postgres.cluster().kill()
        with self.assertRaises(DatabaseUnavailable):
            await told
        for _ in range(2):
            with self.assertRaises(DatabaseUnavailable):
                await database.tell(add(1))
        postgres.cluster().start()
        await database.tell(add(2))
        self.assertEqual(await database.read(words), [(2, b"word")])
        await self.opened(database)

    async def test_cut(self) -> None:
        """So does one whose connection is cut while it is under way."""
        database = await self.database()

        def change(transaction: Transaction) -> None:
            add(1)(transaction)
            later(transaction, "SELECT pg_terminate_backend(pg_backend_pid())")

        with self.assertRaises(DatabaseUnavailable):
            await database.tell(change)
        await database.tell(add(2))
        self.assertEqual(await database.read(words), [(2, b"word")])
        await self.opened(database)

    async def test_cancelled(self) -> None:
        """Who does not wait any longer has what was sent performed all the same; others go on meanwhile."""
        database = await self.database()
        told = Deferred.fromCoroutine(database.tell(add(1)))
        told.cancel()
        await self.assertFailure(told, CancelledError)
        await database.tell(add(2))
        self.assertTrue(await self.until(database, lambda: add(3)))
        self.assertIn((1, b"word"), await database.read(words))

    async def until(self, database: Database, change: Callable[[], Callable[[Transaction], bool]]) -> bool:
        """Make a change, which another may have made before, until it goes without a thread."""
        while True:
            await database.write(lambda transaction: later(transaction, "DELETE FROM words WHERE id = 3"))
            if await database.tell(change()):
                return True

    async def test_stop(self) -> None:
        """What is under way is finished before the end."""
        database = await self.database()
        told = Deferred.fromCoroutine(database.tell(add(1)))
        await database.stop()
        self.assertTrue(await told)
        with self.assertRaises(DatabaseUnavailable):
            await database.tell(add(2))
        await database.start()
        self.assertEqual(await database.read(words), [(1, b"word")])
        await self.opened(database)


_BYTES = array_of_bytes([b"b", b"a"])
