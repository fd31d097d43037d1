"""The migrations make the schema that the code describes, on each of the databases."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

import msgd
from msgd.database import Database, Transaction, metadata
from msgd.database.migrate import MIGRATIONS, upgrade
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected


def import_tables() -> None:
    """Import every module that defines tables, so that they register with the MetaData."""
    for module in pkgutil.walk_packages(msgd.__path__, "msgd."):
        if module.name.rpartition(".")[2] in ("tables", "store"):
            import_module(module.name)


def differences(transaction: Transaction) -> list[Any]:
    """What would have to be migrated yet."""
    import_tables()
    context = MigrationContext.configure(transaction, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


class MigrationCases(_TestCase):
    def url(self) -> str:
        raise NotImplementedError

    async def started(self, url: str) -> Database:
        database = Database(url, reactor=reactor)
        await database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(database.stop()))
        return database

    async def test_schema_is_as_described(self) -> None:
        """A new database has exactly the tables, columns, types and indexes of the MetaData."""
        database = await self.started(self.url())
        self.assertEqual(await database.write(differences), [])

    async def test_again(self) -> None:
        """A database that is up to date is left as it is."""
        url = self.url()
        await (await self.started(url)).stop()
        database = await self.started(url)
        await database.write(upgrade)
        self.assertEqual(await database.write(differences), [])


class SQLiteTests(MigrationCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"


class PostgreSQLTests(MigrationCases, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)


class ChainTests(SynchronousTestCase):
    def test_linear(self) -> None:
        """Every step follows one other, in the order of the numbers in their ids, which are their files' names."""
        steps = list(reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())))
        self.assertTrue(steps)
        self.assertEqual([step.revision for step in steps], sorted(step.revision for step in steps))
        self.assertEqual([step.down_revision for step in steps], [None, *(step.revision for step in steps[:-1])])
        for number, step in enumerate(steps, 1):
            self.assertEqual(Path(step.path).stem, step.revision)
            self.assertEqual(step.revision.partition("_")[0], f"{number:04}")

    def test_constraints_are_named(self) -> None:
        """Every constraint has a name: what has none cannot be dropped by a later step on both databases."""
        import_tables()
        for table in metadata.tables.values():
            for constraint in table.constraints:
                self.assertIsNotNone(constraint.name, f"{constraint} of {table}")
