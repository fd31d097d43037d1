"""Presence by every door, on two notifiers; and that large rooms cost no more than they must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.interface import Broker
from msgd.config.settings import Notifier as Settings
from msgd.notifier.attendance import Seat
from msgd.notifier.auth.keys_file import SecretKeys
from msgd.notifier.presence.roster import MEMBERS_SHOWN, Roster
from msgd.notifier.presence.service import presence_message
from msgd.notifier.presence.watch import Watch
from msgd.notifier.presence.watching import FRESH, NAMES_A_SECOND, PACE_S, PORTION, View, Views, Watching
from msgd.notifier.service import Notifier
from tests.notifier.eventsource import listen
from tests.notifier.socket import Client
from tests.notifier.test_websocket import SocketCase
from tests.notifier.world import SECRET, World, reactor, token

READER = ("subscribe:room.#", "publish:room.#")


class Neighbour:
    """Another notifier on the same broker, database and journal."""

    def __init__(self, world: World, broker: Broker | None = None) -> None:
        """``broker``: another connection to the same."""
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
        self.port = 0
        self._port: Any = None

    async def start(self) -> None:
        await self.notifier.start()
        self._port = reactor.listenTCP(0, self.notifier.site, interface="127.0.0.1")
        self.port = self._port.getHost().port

    async def stop(self) -> None:
        await self._port.stopListening()
        await self.notifier.stop()


class PresenceCase(SocketCase):
    """A test with members."""

    async def neighbour(self, world: World, broker: Broker | None = None) -> Any:
        neighbour = Neighbour(world, broker)
        self.addCleanup(lambda: Deferred.fromCoroutine(neighbour.stop()))
        await neighbour.start()
        return neighbour

    async def named(self, place: Any, sub: str) -> Client:
        return await self.client(place, who=token(sub, *READER))

    async def members(self, client: Client, *expected: str) -> None:
        """Returns when the client has been told of these members."""
        told = await client.next(lambda one: one["op"] == "presence" and one["members"] == list(expected))
        self.assertEqual(told["count"], len(expected))


class PresenceTest(PresenceCase):
    """Who is there."""

    async def test_two_notifiers(self) -> None:
        """A member by one notifier is seen by those of the other, at once; and counted once, by however many doors."""
        world = await self.world()
        other = await self.neighbour(world)
        ann, bob, bob_too = (
            await self.named(world, "ann"),
            await self.named(other, "bob"),
            await self.named(world, "bob"),
        )
        await ann.subscribe("room.a")
        answer = await ann.answer("presence", topic="room.a")
        self.assertEqual((answer["members"], answer["count"]), (["ann"], 1))
        await bob.subscribe("room.a")
        await self.members(ann, "ann", "bob")
        await bob_too.subscribe("room.a")
        bob.say("presence", topic="room.a", ref=1)
        await self.members(bob, "ann", "bob")
        status, page, _ = await world.call("GET", "/api/topics/room.a/presence", who=token("cyd", *READER))
        self.assertEqual((status, page), (200, {"topic": "room.a", "members": ["ann", "bob"], "count": 2}))
        await bob.close()
        await ann.answer("unsubscribe", topic="room.a")  # it was told until then
        await self.named(world, "dan")
        cyd = await self.named(other, "cyd")
        await cyd.subscribe("room.a")
        await cyd.answer("presence", topic="room.a")
        # ann is gone after the debounce, bob still has a door.
        await self.members(cyd, "bob", "cyd")
        self.assertEqual(sum(one["op"] == "presence" and "dan" in one["members"] for one in ann.messages), 0)

    async def test_http_doors(self) -> None:
        """An event stream makes present, and so does a long-poll while it waits; a pattern does not."""
        world = await self.world()
        ann = await self.named(world, "ann")
        await ann.answer("presence", topic="room.a")
        bob = await self.named(world, "bob")
        await bob.subscribe("room.*")
        stream = await listen(world.port, "/api/topics/room.a/events", who=token("cyd", *READER))
        await self.members(ann, "cyd")
        polling = Deferred.fromCoroutine(
            world.call("GET", "/api/topics/room.a/events?wait=20", who=token("dan", *READER))
        )
        await self.members(ann, "cyd", "dan")
        await world.scribe.record([world.event("room.a")])
        await polling
        stream.close()
        await self.members(ann)

    async def test_refusals(self) -> None:
        """Presence is kept of the topics that the settings name, for who may read them."""
        world = await self.world()
        ann = await self.client(world, who=token("ann", "subscribe:app.#", "subscribe:room.a"))
        for topic, code in (("app.x", "invalid"), ("room.b", "forbidden"), ("room.*", "invalid-topic")):
            self.assertEqual((await ann.answer("presence", topic=topic))["code"], code, topic)
        await ann.answer("presence", topic="room.a")
        self.assertEqual((await ann.answer("unsubscribe", topic="room.a"))["op"], "ok")
        self.assertEqual((await ann.answer("unsubscribe", topic="room.a"))["op"], "error")


class WatchingTest(SynchronousTestCase):
    """How often who is told what."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.roster = Roster("me", 0.0)
        self.views = Views(self.roster, self.clock)
        self.encoded = 0
        self.watching = Watching(self.views, self.clock, self.encode)

    def encode(self, view: View) -> bytes:
        self.encoded += 1
        return presence_message(view)

    def changed(self) -> None:
        topics = self.roster.output().topics
        self.views.changed(topics)
        self.watching.changed(topics)

    def enter(self, *subs: str) -> None:
        for sub in subs:
            self.roster.enter("room.a", sub)
        self.changed()

    def watch(self, count: int = 1) -> list[View]:
        told: list[View] = []
        for _ in range(count):
            self.watching.add("room.a", lambda view, _: told.append(view))
        return told

    def settle(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    def test_at_most_once_a_second(self) -> None:
        """The first change is told at once, those that follow together, and the last of them always."""
        told = self.watch()
        for number in range(30):
            self.enter(f"user-{number}")
            self.settle(0.1)
        self.settle(PACE_S)
        self.assertEqual(told[0].count, 1)
        self.assertEqual(told[-1].count, 30)
        self.assertLessEqual(len(told), 5)

    def test_encoded_once(self) -> None:
        """However many watch, a view is encoded once; what changes while it is told is told afterwards."""

        def comes(view: View, _: bytes) -> None:
            if view.count == 1:
                self.enter("bob")

        self.watching.add("room.a", comes)
        told = self.watch(3 * PORTION)
        self.enter("ann")
        self.settle(2 * PACE_S)
        self.assertEqual([view.count for view in told], [1] * 3 * PORTION + [2] * 3 * PORTION)
        self.assertEqual(self.encoded, 2)

    def test_large_rooms(self) -> None:
        """With 10,000 members, all watching, what is told is bounded: names, and how many a second."""
        count = 10_000
        told = self.watch(count)
        for number in range(count):
            self.enter(f"user-{number:05}")
            self.views.of("room.a")  # as each asks when it comes
            self.clock.advance(0.001)
        self.settle(15.0)
        self.assertEqual((told[-1].count, len(told[-1].members)), (count, MEMBERS_SHOWN))
        self.assertEqual(told[-1].members[:2], ["user-00000", "user-00001"])
        pace_s = count * MEMBERS_SHOWN / NAMES_A_SECOND
        self.assertLessEqual(self.encoded, 25.0 / pace_s + 5)

    def test_views_of_large_rooms(self) -> None:
        """Of a large room a view is made once a second; who began to watch by an old one is told the newest."""
        self.enter(*(f"user-{number}" for number in range(FRESH + 1)))
        first = self.views.of("room.a")
        self.enter("late")
        self.assertIs(self.views.of("room.a"), first)
        self.assertTrue(self.views.behind("room.a"))
        self.clock.advance(PACE_S)
        self.assertEqual(self.views.of("room.a").count, FRESH + 2)
        self.assertFalse(self.views.behind("room.a"))

    def test_nothing_is_kept_of_empty_topics(self) -> None:
        """A topic where nobody is any more is forgotten."""
        self.enter("ann")
        self.views.of("room.a")
        self.roster.leave("room.a", "ann")
        for second in range(1, 10):
            self.roster.tick(float(second))
        self.changed()
        self.assertEqual(self.views.of("room.a").count, 0)
        self.assertEqual((list(self.roster.topics), self.views._made), ([], {}))

    def test_a_slow_reader(self) -> None:
        """A connection whose socket is full is told the latest once there is room, and nothing is held for it."""

        class Socket:
            def __init__(self) -> None:
                self.said: list[bytes] = []
                self.waiting: Deferred[None] | None = None
                self.full = True

            def drained(self) -> Deferred[None]:
                if not self.full:
                    return succeed(None)
                self.waiting = Deferred()
                return self.waiting

            def say(self, message: bytes) -> None:
                self.said.append(message)

        class Source:
            def __init__(self, test: WatchingTest) -> None:
                self.watch: Callable[..., None] = test.watching.add
                self.unwatch: Callable[..., None] = test.watching.remove
                self.view = test.views.of

        socket, left = Socket(), []
        attendance: Any = type("Seats", (), {"_leave": lambda self, seat: left.append(seat)})()
        source: Any = Source(self)
        watch = Watch(source, "room.a", socket, Seat(attendance, "room.a", lambda: None, left.append, ""))  # type: ignore[arg-type,return-value]  # nobody sits there: what is kept is looked at, not who
        for sub in ("ann", "bob", "cyd"):
            self.enter(sub)
            self.settle(PACE_S)
        self.assertEqual(socket.said, [])
        socket.full = False
        assert socket.waiting is not None
        socket.waiting.callback(None)
        self.assertEqual(socket.said, [presence_message(View("room.a", ["ann", "bob", "cyd"], 3))])
        socket.full = True
        self.enter("dan")
        self.settle(PACE_S)
        watch.end()
        watch.end()
        self.assertEqual((len(left), len(socket.said)), (1, 1))
