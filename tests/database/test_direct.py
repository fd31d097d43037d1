"""Whole batches of rows through the driver, on each of the databases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, Table, Text, select
from sqlalchemy.exc import IntegrityError
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.database.direct import FEW, answers, insert_rows, later, update_rows
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

_tables = MetaData()
things = Table(
    "direct_things",
    _tables,
    Column("id", Text, primary_key=True),
    Column("key", Text),  # a word of SQL
    Column("count", Integer),
    Column("time_ms", BigInteger),
    Column("wanted", Boolean),
    Column("body", LargeBinary),
)

ROWS: list[tuple[Any, ...]] = [
    ("a", "naïve ☃ \"'\\%s name", 2**31 - 1, 2**62, True, b"\x00\xff{}%b"),
    ("b", None, None, None, None, None),
    ("c", "", -1, 0, False, b""),
]


def stored(transaction: Transaction) -> list[tuple[Any, ...]]:
    """All rows, by id."""
    return [tuple(row) for row in transaction.execute(select(things).order_by(things.c.id))]


class DirectCases(_TestCase):
    def url(self) -> str:
        raise NotImplementedError

    async def database(self) -> Database:
        database = Database(self.url(), reactor=reactor, prepare=_tables.create_all)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def test_insert(self) -> None:
        """Values of every kind we have, and their absence, come back as they went."""
        database = await self.database()
        await database.write(lambda transaction: insert_rows(transaction, things, ROWS))
        self.assertEqual(await database.read(stored), ROWS)

    async def test_insert_twice(self) -> None:
        """A key that is there fails the insert as SQLAlchemy says it, and nothing of it stays."""
        database = await self.database()
        await database.write(lambda transaction: insert_rows(transaction, things, ROWS[1:]))
        with self.assertRaises(IntegrityError):
            await database.write(lambda transaction: insert_rows(transaction, things, ROWS))
        self.assertEqual(await database.read(stored), ROWS[1:])

    async def test_update(self) -> None:
        """Each row gets its own values, in the columns named; a key that is not there is passed over."""
        database = await self.database()
        await database.write(
            lambda transaction: insert_rows(transaction, things, [(key, *ROWS[1][1:]) for key in "abc"])
        )
        names = [column.name for column in things.columns][1:]
        absent = ("absent", *ROWS[0][1:])
        await database.write(lambda transaction: update_rows(transaction, things, names, [*ROWS, absent]))
        self.assertEqual(await database.read(stored), ROWS)
        await database.write(lambda transaction: update_rows(transaction, things, ["wanted"], [("c", True)]))
        self.assertEqual(await database.read(stored), [*ROWS[:2], ("c", "", -1, 0, True, b"")])

    async def test_many(self) -> None:
        """Be the rows few or many, they are inserted and updated alike."""
        database = await self.database()
        for many in (1, 2 * FEW):
            rows = [(f"{many}-{number:03}", *ROWS[0][1:]) for number in range(many)]

            def change(transaction: Transaction, rows: list[tuple[Any, ...]] = rows) -> None:
                insert_rows(transaction, things, rows)
                update_rows(transaction, things, ["count"], [(key, 7) for key, *_ in rows])

            await database.write(change)
        self.assertEqual([row[2] for row in await database.read(stored)], [7] * (1 + 2 * FEW))

    async def test_what_waits_fails(self) -> None:
        """What one of them breaks is raised as SQLAlchemy says it, nothing stays, and the connection goes on."""
        database = await self.database()
        await database.write(lambda transaction: insert_rows(transaction, things, ROWS[1:2]))

        def change(transaction: Transaction) -> None:
            insert_rows(transaction, things, ROWS[:1])
            insert_rows(transaction, things, ROWS[1:2])
            update_rows(transaction, things, ["count"], [("a", 7)])

        with self.assertRaises(IntegrityError):
            await database.write(change)
        self.assertEqual(await database.read(stored), ROWS[1:2])

    async def test_order(self) -> None:
        """A statement sees what those before it have written, whichever way they went."""
        database = await self.database()
        seen: list[Any] = []

        def change(transaction: Transaction) -> None:
            insert_rows(transaction, things, ROWS[:1])
            seen.append(stored(transaction))
            insert_rows(transaction, things, ROWS[1:2])
            seen.extend(answers(transaction, ("SELECT id FROM direct_things ORDER BY id", ())))
            later(transaction, "DELETE FROM direct_things WHERE id = 'a'")
            later(transaction, "SELECT id FROM direct_things", then=seen.append)

        await database.write(change)
        self.assertEqual(seen, [ROWS[:1], [("a",), ("b",)], [("b",)]])
        self.assertEqual(await database.read(stored), ROWS[1:2])

    async def test_answers(self) -> None:
        """Each query gets its own rows, in the order asked."""
        database = await self.database()
        await database.write(lambda transaction: insert_rows(transaction, things, ROWS))
        found = await database.read(
            lambda transaction: answers(
                transaction,
                ("SELECT id FROM direct_things ORDER BY id", ()),
                ("SELECT body, count FROM direct_things WHERE id = 'a'", ()),
                ("SELECT id FROM direct_things WHERE id = 'none'", ()),
            )
        )
        self.assertEqual(found, [[("a",), ("b",), ("c",)], [(ROWS[0][5], ROWS[0][2])], []])


class SQLite(DirectCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp())}.sqlite3"


class PostgreSQL(DirectCases, TestCase):
    def setUp(self) -> None:
        self._url = postgres.fresh_database(self)

    def url(self) -> str:
        return self._url
