"""Statements over many rows, on each of the databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text, create_engine, select, update
from sqlalchemy.types import TypeEngine
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.database import Database, Transaction
from msgd.database.bulk import insert, rows_of
from msgd.database.sqlite import SQLiteStore
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

_tables = MetaData()
things = Table(
    "things",
    _tables,
    Column("id", BigInteger, primary_key=True),
    Column("name", Text),
    Column("body", LargeBinary),
)
COLUMNS: Mapping[str, TypeEngine[Any]] = {"id": BigInteger(), "name": Text(), "body": LargeBinary()}


def all_of(rows: Sequence[Sequence[Any]]) -> Callable[[Transaction], list[Any]]:
    """A query for ``rows`` as the database sees them."""
    return lambda transaction: list(transaction.execute(select(*rows_of(transaction, COLUMNS, rows).c)))


class BulkCases(_TestCase):
    def url(self) -> str:
        raise NotImplementedError

    async def database(self) -> Database:
        database = Database(self.url(), reactor=reactor, prepare=_tables.create_all)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def test_update_from_rows(self) -> None:
        """One statement updates each row by its own values and tells which there were."""
        database = await self.database()
        rows = [
            (1, "naïve ☃ \"'\\ name", b"\x00\xff{}"),
            (2, None, b""),
            (2**62, "", None),
            (404, "not there", b"x"),
        ]

        def change(transaction: Transaction) -> list[Any]:
            transaction.execute(insert(transaction, things), [{"id": row[0]} for row in rows[:3]])
            given = rows_of(transaction, COLUMNS, rows)
            statement = (
                update(things)
                .where(things.c.id == given.c.id)
                .values(name=given.c.name, body=given.c.body)
                .returning(things.c.id)
            )
            return sorted(transaction.execute(statement).scalars())

        self.assertEqual(await database.write(change), [1, 2, 2**62])
        stored = await database.read(
            lambda transaction: transaction.execute(select(things).order_by(things.c.id)).all()
        )
        self.assertEqual([tuple(row) for row in stored], rows[:3])

    async def test_no_rows(self) -> None:
        """No rows are a table without rows."""
        database = await self.database()
        found = await database.read(all_of([]))
        self.assertEqual(found, [])

    async def test_insert_what_is_missing(self) -> None:
        """An insert that ignores what is there already, and one that updates it."""
        database = await self.database()

        def change(transaction: Transaction) -> list[str]:
            ignore = insert(transaction, things).on_conflict_do_nothing(index_elements=["id"])
            for names in (["a", "b"], ["B", "C"]):
                transaction.execute(ignore, [{"id": ord(name.lower()), "name": name} for name in names])
            replace = insert(transaction, things)
            transaction.execute(
                replace.on_conflict_do_update(index_elements=["id"], set_={"name": replace.excluded.name}),
                [{"id": ord("c"), "name": "see"}],
            )
            return list(transaction.execute(select(things.c.name).order_by(things.c.id)).scalars())

        self.assertEqual(await database.write(change), ["a", "b", "see"])


class SQLiteTests(BulkCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"


class PostgreSQLTests(BulkCases, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)


class RoundTripTests(SynchronousTestCase):
    @settings(max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.none() | st.integers(-(2**63), 2**63 - 1),
                st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
                st.none() | st.binary(),
            )
        )
    )
    def test_rows_come_back(self, rows: list[tuple[int | None, str | None, bytes | None]]) -> None:
        """Whatever numbers, texts and bytes go in come out, in order (SQLite, where they travel as JSON)."""
        self.assertEqual(self.store.read(all_of(rows)), rows)

    def setUp(self) -> None:
        url = create_engine(f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}").url
        self.store = SQLiteStore(url, readers=1)
        self.store.open(lambda _: None)
        self.addCleanup(self.store.close)
