"""Secrets sealed anew when a messenger starts, on both databases."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from sqlalchemy import text
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from msgd.database import Database, Transaction
from msgd.services.messenger.webhooks import resealing, store
from msgd.services.messenger.webhooks.endpoints import Endpoint
from msgd.services.messenger.webhooks.resealing import Resealing
from msgd.services.messenger.webhooks.sealing import Seal
from tests.servers import postgres

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

LOST, OLD, NEW = b"l" * 32, b"o" * 32, b"n" * 32
COUNT = 7


class ResealingCases(_TestCase):
    """Two at a time, so that there are several transactions."""

    timeout = 300

    def url(self) -> str:
        raise NotImplementedError

    async def begin(self) -> None:
        """So many endpoints, each with an old secret too."""
        self.patch(resealing, "AT_ONCE", 2)
        self.database = Database(self.url(), reactor=reactor, threads=4)
        await self.database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        for number in range(COUNT):
            await self.write(store.create, endpoint=_endpoint(number))

    async def write(self, change: Any, **given: Any) -> Any:
        return await self.database.write(partial(change, **given))

    async def reseal(self, *keys: bytes) -> None:
        await Resealing(self.database, Seal(keys)).start()

    async def stored(self) -> list[Endpoint]:
        return list(await self.database.read(partial(store.page, owner=None, after="", limit=100)))

    async def check(self, *keys: bytes) -> None:
        """All are sealed with the first key, and open to what they were."""
        seal = Seal(keys)
        for number, endpoint in enumerate(await self.stored()):
            texts = [endpoint.secret, endpoint.old_secret]
            self.assertTrue(all(one.startswith(seal.beginning) for one in texts), texts)
            opened = replace(endpoint, **{
                name: seal.opened(getattr(endpoint, name), endpoint.id) for name in ("secret", "old_secret")
            })  # fmt: skip
            self.assertEqual(opened, _endpoint(number))

    async def held_up(self) -> None:
        """A transaction waits for another one. There is one thread that writes to SQLite: what is begun there waits."""

    async def test_sealed_and_sealed_anew(self) -> None:
        """What lies open is sealed; with a newer key all are sealed anew; what has it already stays as it is."""
        await self.begin()
        await self.reseal()
        self.assertEqual(await self.stored(), [_endpoint(number) for number in range(COUNT)])
        await self.reseal(OLD)
        await self.check(OLD)
        await self.reseal(NEW, OLD)
        await self.check(NEW, OLD)
        before = await self.stored()
        await self.reseal(NEW, OLD)
        self.assertEqual(await self.stored(), before)

    async def test_a_key_is_missing(self) -> None:
        """What no key opens stays as it is, and keeps none of the others."""
        await self.begin()
        lost = [one for one in await self.stored() if one.id in ("e1", "e2")]
        seal = Seal([LOST])
        for one in lost:
            closed = replace(one, secret=seal.closed(one.secret, one.id))
            await self.write(store.change, endpoint=closed)
        unopened = [one for one in await self.stored() if one.id in ("e1", "e2")]
        await self.reseal(NEW)
        found = await self.stored()
        self.assertEqual([one for one in found if one.id in ("e1", "e2")], unopened)
        rest = [one.secret for one in found if one.id not in ("e1", "e2")]
        self.assertTrue(all(one.startswith(Seal([NEW]).beginning) for one in rest), rest)
        await self.reseal(NEW, LOST)
        await self.check(NEW, LOST)

    async def test_two_at_once(self) -> None:
        """Two messengers that start together do each other no harm."""
        await self.begin()
        await gatherResults([Deferred.fromCoroutine(self.reseal(NEW)) for _ in "ab"])
        await self.check(NEW)

    async def test_one_changes_meanwhile(self) -> None:
        """An endpoint that somebody changes while it is to be sealed does not end it before the others."""
        await self.begin()
        begun: Deferred[None] = Deferred()
        go_on = threading.Event()

        def change(transaction: Transaction) -> None:
            endpoint = store.find(transaction, "e1", lock=True)
            assert endpoint is not None
            closed = {name: Seal([NEW]).closed(getattr(endpoint, name), "e1") for name in ("secret", "old_secret")}
            store.change(transaction, replace(endpoint, **closed))
            reactor.callFromThread(begun.callback, None)
            go_on.wait()

        changing = Deferred.fromCoroutine(self.database.write(change))
        try:
            await begun
            sealing = Deferred.fromCoroutine(self.reseal(NEW))
            await self.held_up()
        finally:
            go_on.set()
        await changing
        await sealing
        await self.check(NEW)


def _endpoint(number: int) -> Endpoint:
    return Endpoint(
        id=f"e{number}", owner="ann", url="https://a.example/", description="", created_ms=1,
        secret=f"whsec_{number}", old_secret=f"whsec_old{number}", old_until_ms=5,
    )  # fmt: skip


class SQLiteTests(ResealingCases, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute()}.sqlite3"


class PostgreSQLTests(ResealingCases, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)

    async def held_up(self) -> None:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while not await self.database.read(lambda transaction: transaction.execute(waiting).scalar_one()):
            pass
