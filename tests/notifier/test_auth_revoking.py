"""Tokens taken back: at once here, within a second everywhere, and as long as they could be shown."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker import topology
from msgd.broker.amqp import AmqpBroker
from msgd.broker.interface import Broker
from msgd.config.settings import Auth, Limits
from msgd.config.settings import Notifier as Settings
from msgd.database import Database
from msgd.notifier import operations as ops
from msgd.notifier.auth import revocations, store
from msgd.notifier.auth.keys_file import SecretKeys
from msgd.notifier.auth.revocations import UNSURE_S
from msgd.notifier.auth.revoked import JTI, SUB, Revocation, Revoked
from msgd.notifier.auth.signing import claims_of, sign_with_secret
from msgd.notifier.interface import Principal
from msgd.notifier.service import Notifier
from tests.notifier.socket import Client
from tests.notifier.world import SECRET, World, WorldCase, pause, reactor, token
from tests.servers import postgres, rabbitmq

NEVER_S = 3600.0
"""So long a notifier does not look by itself: what it knows then it was told."""


def named(token_id: str, *, age_s: float = 0.0, sub: str = "ann") -> str:
    """A token with a jti, issued so long ago."""
    now_s = reactor.seconds() - age_s
    claims = claims_of(sub=sub, can=["subscribe:#"], ttl_s=600 + age_s, now_s=now_s, token_id=token_id)
    return sign_with_secret(SECRET, claims)


def old(sub: str = "ann", *can: str) -> str:
    """A token that was issued a while ago."""
    return sign_with_secret(
        SECRET, claims_of(sub=sub, can=can or ["subscribe:#"], ttl_s=660, now_s=reactor.seconds() - 60)
    )


class Beside(World):
    """A second notifier on the database of a world, and on its broker or one's own connection to the same one."""

    def __init__(self, world: World, broker: Broker | None = None) -> None:
        super().__init__()
        self._own = broker
        self.database = world.database
        self.notifier = Notifier(
            broker=broker or world.broker,
            jobs=world.jobs,
            journal=world.journal,
            database=world.database,
            types={},
            keys=SecretKeys(SECRET),
            settings=Settings(),
            reactor=reactor,
        )

    async def start(self, *, broker: bool = True) -> None:
        if self._own is not None:
            await self._own.start()
        await self.notifier.start()
        self._port = reactor.listenTCP(0, self.notifier.site, interface="127.0.0.1")
        self.port = self._port.getHost().port

    async def stop(self) -> None:
        await self._port.stopListening()
        await self.notifier.stop()
        if self._own is not None:
            await self._own.stop()
        await self._pool.closeCachedConnections()


class RevokedTest(SynchronousTestCase):
    """Whom a revocation concerns."""

    def who(self, sub: str = "ann", token_id: str = "", issued_s: float = 0.0) -> Principal:
        return Principal(sub=sub, token_id=token_id, issued_s=issued_s, expires_s=1e9)

    def test_sub(self) -> None:
        """Tokens that were issued up to then, and those that do not tell; no newer ones, and nobody else's."""
        revoked = Revoked([Revocation(SUB, "ann", 10_500, 99_000)])
        for issued_s, covered in ((0.0, True), (5, True), (10, True), (10.5, True), (10.6, False), (11, False)):
            self.assertEqual(revoked.covers(self.who(issued_s=issued_s)), covered, issued_s)
        for sub in ("bob", "Ann", "ann ", "an", "ann\u0301"):
            self.assertFalse(revoked.covers(self.who(sub)))

    def test_jti(self) -> None:
        """The one token, whenever it was issued; a sub of that name is not meant."""
        revoked = Revoked([Revocation(JTI, "ann", 10_500, 99_000)])
        self.assertTrue(revoked.covers(self.who("bob", "ann", 11)))
        self.assertFalse(revoked.covers(self.who("ann", "", 0)))
        self.assertFalse(revoked.covers(self.who("ann", "other", 0)))

    @given(
        st.lists(
            st.tuples(st.sampled_from((SUB, JTI)), st.sampled_from("abc"), st.integers(0, 20)),
            unique_by=lambda x: x[:2],
        ),
        st.sampled_from("abc"),
        st.sampled_from(["", "a", "b"]),
        st.integers(0, 20),
    )
    def test_each_counts(self, rows: list[tuple[str, str, int]], sub: str, jti: str, issued_s: int) -> None:
        """Of many revocations each counts by itself."""
        made = [Revocation(kind, value, at * 1000, 99_000) for kind, value, at in rows]
        who = self.who(sub, jti, issued_s)
        self.assertEqual(Revoked(made).covers(who), any(Revoked([one]).covers(who) for one in made))


class RevokeCase(WorldCase):
    """A test with worlds and clients."""

    async def beside(self, world: World, broker: Broker | None = None) -> World:
        made = Beside(world, broker)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        await made.start()
        return made

    async def client(self, world: World, who: str) -> Client:
        client = await Client().connect(world, who=who)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        await client.next("welcome")
        return client

    async def revoke(self, world: World, **what: Any) -> dict[str, Any]:
        status, view, _ = await world.call("POST", "/api/revoke", what, who=token("root"))
        self.assertEqual(status, 200, view)
        assert isinstance(view, dict)
        return view

    async def everywhere(self, world: World, other: World) -> None:
        """Revoked on one notifier, all that is open on both ends, for the other is told; others are not touched."""
        who = old()
        waiting = [await self.client(one, who) for one in (world, other)]
        bystander = await self.client(other, token("bob", "subscribe:#"))
        polls = [
            Deferred.fromCoroutine(one.call("GET", "/api/topics/room.a/events?wait=20", who=who))
            for one in (world, other)
        ]
        streams = [
            Deferred.fromCoroutine(
                one.call("GET", "/api/topics/room.a/events", who=who, headers={"Accept": "text/event-stream"})
            )
            for one in (world, other)
        ]
        while min(len(world.doors()), len(other.doors())) < 3 or other.notifier._revocations._queue is None:
            await pause(0.01)
        await self.revoke(world, sub="ann")
        for client in waiting:
            code, reason = await client.ended
            self.assertEqual(code, ops.BAD_TOKEN)
            self.assertIn("revoked", reason)
        for poll in polls:
            self.assertEqual((await poll)[0], 401)
        for stream in streams:
            await stream
        self.assertTrue(bystander.open)
        self.assertEqual((await bystander.answer("ping"))["op"], "ok")
        self.assertEqual((await other.call("GET", "/api/jobs", who=who))[0], 401)
        while world.doors() or len(other.doors()) > 1:
            await pause(0.01)


class StoreTest(WorldCase):
    """The table."""

    timeout = 300

    async def test_both_databases(self) -> None:
        """What is added is read, by whoever has an older state too; renewed, outlived and lifted it is noticed."""
        urls = [f"sqlite:///{self.mktemp()}", await deferToThread(postgres.fresh_database, self)]
        for url in urls:
            database = Database(url, reactor=reactor)
            await database.start()
            try:
                await self.life(database)
            finally:
                await database.stop()

    async def life(self, database: Database) -> None:
        ann = Principal(sub="ann", issued_s=1.0, expires_s=9.0)

        async def read(known: Revoked, now_ms: int = 5000) -> Revoked:
            return await database.read(lambda transaction: store.read_revoked(transaction, known, now_ms))

        async def add(revoked_ms: int, until_ms: int) -> Revocation:
            given = Revocation(SUB, "ann", revoked_ms, until_ms)
            return await database.write(lambda transaction: store.add_revocation(transaction, given))

        none = await read(Revoked())
        self.assertFalse(none.covers(ann))
        self.assertIs(await read(none), none)
        self.assertEqual(await add(2000, 9000), Revocation(SUB, "ann", 2000, 9000))
        one = await read(none)
        self.assertTrue(one.covers(ann))
        self.assertIs(await read(one), one)
        self.assertEqual(await add(1500, 9500), Revocation(SUB, "ann", 2000, 9500))
        self.assertIsNot(await read(one), one)
        self.assertFalse((await read(one, 9500)).covers(ann))
        lifted = [await database.write(lambda transaction: store.lift_revocation(transaction, SUB, "ann"))
                  for _ in range(2)]  # fmt: skip
        self.assertEqual(lifted, [True, False])
        self.assertFalse((await read(one)).covers(ann))


class ApiTest(RevokeCase):
    """``/api/revoke``."""

    async def test_sub(self) -> None:
        """Older tokens are refused from the answer on, by every door; newer ones are not."""
        world = await self.world()
        before, others = old(), token("bob", "subscribe:#")
        self.assertEqual((await world.call("GET", "/api/jobs", who=before))[0], 200)
        view = await self.revoke(world, sub="ann")
        self.assertEqual(view["sub"], "ann")
        status, problem, _ = await world.call("GET", "/api/jobs", who=before)
        self.assertEqual((status, problem["code"]), (401, "token-revoked"))
        status, problem, _ = await world.call("POST", "/api/session", {"token": before}, who=None)
        self.assertEqual((status, problem["code"]), (401, "token-revoked"))
        refused = await Client().connect(world, who=before)
        self.assertEqual((await refused.ended)[0], ops.BAD_TOKEN)
        waiting = await Client().connect(world, who=None)
        waiting.say("hello", token=before)
        self.assertEqual((await waiting.next("error"))["code"], "token-revoked")
        self.assertEqual((await waiting.ended)[0], ops.BAD_TOKEN)
        without_iat = sign_with_secret(SECRET, {"sub": "ann", "exp": int(reactor.seconds()) + 60})
        self.assertEqual((await world.call("GET", "/api/jobs", who=without_iat))[0], 401)
        claims = claims_of(sub="ann", can=[], ttl_s=60, now_s=reactor.seconds() + 1)
        for who in (others, sign_with_secret(SECRET, claims)):
            self.assertEqual((await world.call("GET", "/api/jobs", who=who))[0], 200)

    async def test_jti(self) -> None:
        """One token is revoked, and no other; kept until it has expired."""
        world = await self.world()
        expires = time.time() + 600
        view = await self.revoke(world, jti="one", expires=expires)
        self.assertEqual(view["jti"], "one")
        self.assertEqual((await world.call("GET", "/api/jobs", who=named("one")))[0], 401)
        self.assertEqual((await world.call("GET", "/api/jobs", who=named("two")))[0], 200)
        _, listed, _ = await world.call("GET", "/api/revoke")
        self.assertEqual(listed, {"revocations": [view]})

    async def test_lift(self) -> None:
        """What was revoked by mistake is good again."""
        world = await self.world()
        await self.revoke(world, sub="ann.b c")
        who = old("ann.b c")
        self.assertEqual((await world.call("GET", "/api/jobs", who=who))[0], 401)
        status, _, _ = await world.call("DELETE", "/api/revoke?sub=ann.b%20c")
        self.assertEqual(status, 204)
        self.assertEqual((await world.call("GET", "/api/jobs", who=who))[0], 200)
        self.assertEqual((await world.call("DELETE", "/api/revoke?sub=ann.b%20c"))[0], 404)

    async def test_again(self) -> None:
        """Revoked twice, the later moment and the longer time hold; those that are over are forgotten."""
        world = await self.world(auth=Auth(days=1))
        soon = time.time() + 100
        first = await self.revoke(world, jti="one")
        second = await self.revoke(world, jti="one", expires=soon)
        self.assertEqual(second["until"], first["until"])
        self.assertGreaterEqual(second["revoked"], first["revoked"])

    async def test_refusals(self) -> None:
        """It takes admin:#, and says clearly whom it means."""
        world = await self.world()
        for can in ("admin:room.#", "subscribe:#", "admin:*"):
            who = token("eve", can)
            self.assertEqual((await world.call("POST", "/api/revoke", {"sub": "ann"}, who=who))[0], 403)
            for method in ("GET", "DELETE"):
                self.assertEqual((await world.call(method, "/api/revoke?sub=ann", who=who))[0], 403)
        bodies: tuple[dict[str, Any], ...] = (
            {},
            {"sub": "", "jti": ""},
            {"sub": "a", "jti": "b"},
            {"sub": "x" * 61},
            {"sub": "a\0b"},
            {"jti": "x" * 201},
            {"jti": "a", "expires": 1},
            {"jti": "a", "expires": "soon"},
            {"sub": "a", "expires": time.time() + 60},
            {"sub": ["a"]},
            {"user": "a"},
        )
        for body in bodies:
            self.assertEqual((await world.call("POST", "/api/revoke", body))[0], 400, body)
        self.assertEqual((await world.call("GET", "/api/revoke"))[1], {"revocations": []})


class DisconnectTest(RevokeCase):
    """What the revoked have open ends."""

    async def test_embedded(self) -> None:
        """Two notifiers in one process."""
        self.patch(revocations, "LOOK_S", NEVER_S)
        world = await self.world()
        await self.everywhere(world, await self.beside(world))

    async def test_told_of_nothing(self) -> None:
        """A notifier that the message does not reach finds out by itself."""
        world = await self.world()
        other = await self.beside(world)
        client = await self.client(other, old())
        publish = world.broker.publish

        def lost(exchange: str, key: str, *rest: Any, **more: Any) -> Any:
            return Deferred() if exchange == topology.CONTROL else publish(exchange, key, *rest, **more)

        self.patch(world.broker, "publish", lost)
        await self.revoke(world, sub="ann")
        self.assertEqual((await client.ended)[0], ops.BAD_TOKEN)

    async def test_in_the_moment_of_opening(self) -> None:
        """A connection whose token was verified just before the revocation is ended all the same."""
        world = await self.world()
        for _ in range(5):
            clients = [Client() for _ in range(10)]
            opening = [Deferred.fromCoroutine(one.connect(world, who=old())) for one in clients]
            revoking = Deferred.fromCoroutine(self.revoke(world, sub="ann"))
            for one in opening:
                await one
            await revoking
            for client in clients:
                self.assertEqual((await client.ended)[0], ops.BAD_TOKEN)
            await world.call("DELETE", "/api/revoke?sub=ann", who=token("root"))


class RabbitTest(RevokeCase):
    """The same over RabbitMQ."""

    timeout = 300

    async def test_rabbitmq(self) -> None:
        """Two notifiers with a connection each."""
        self.patch(revocations, "LOOK_S", NEVER_S)
        node = rabbitmq.node()
        vhost = await deferToThread(rabbitmq.fresh_vhost, self)
        brokers = [AmqpBroker(reactor, [node.url(vhost)], name=name, jitter=lambda: 0.0) for name in ("one", "two")]
        world = await self.world(instead=brokers[0])
        await self.everywhere(world, await self.beside(world, brokers[1]))


class UnsureTest(RevokeCase):
    """A database that does not tell who is revoked."""

    async def test_away_for_long(self) -> None:
        """Access is refused once the last reading is too old: 503, and on a WebSocket each operation; nothing is
        closed, and it is over when the database is back."""
        world = await self.world(limits=Limits())
        client = await self.client(world, token("bob", "subscribe:#"))
        await world.database.stop()
        looks = world.notifier._revocations
        now_s = reactor.seconds
        ahead = 0.0
        self.patch(looks, "_clock", _Ahead(lambda: now_s() + ahead))
        self.assertEqual((await client.answer("ping"))["op"], "ok")
        ahead = UNSURE_S + 1
        answer = await client.answer("ping")
        self.assertEqual((answer["op"], answer["code"]), ("error", "unavailable"))
        status, problem, _ = await world.call("GET", "/api/session", who=None)
        self.assertEqual((status, problem), (200, {"sub": None}))
        status, problem, response = await world.call("GET", "/api/jobs")
        self.assertEqual((status, problem["code"], problem["where"]), (503, "unavailable", "token"))
        self.assertTrue(response.headers.hasHeader("retry-after"))
        await world.database.start()
        await looks._look()
        self.assertEqual((await client.answer("ping"))["op"], "ok")
        self.assertEqual((await world.call("GET", "/api/jobs"))[0], 200)

    async def test_never_read(self) -> None:
        """Before the first reading nobody is let in."""
        world = await self.world()
        await world.database.stop()
        other = await self.beside(world)
        self.assertEqual((await other.call("GET", "/api/jobs"))[0], 503)
        await world.database.start()
        while (await other.call("GET", "/api/jobs"))[0] != 200:
            await pause(0.05)


class _Ahead:
    """A clock of which only the time is asked."""

    def __init__(self, seconds: Any) -> None:
        self.seconds = seconds
