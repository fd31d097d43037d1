"""Watching topics: against a real notifier over lines that break, and against servers that say odd things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from msgd import errors
from msgd.client import Client, Watch
from msgd.client.watch import AHEAD_BYTES, FIRST_WAIT_S
from msgd.config.settings import Limits
from msgd.journal.interface import Retention
from msgd.notifier.doors import CROWDED_S
from tests.client.peers import Line, Scripted
from tests.notifier.world import World, WorldCase, pause, reactor, token
from tests.ports import free_port

Message = dict[str, Any]


class WatchCase(WorldCase):
    """A test with watches."""

    def watch(self, url: str, *topics: str, who: Any = "", jitter: float = 0.0, **how: Any) -> Watch:
        client = Client(reactor, url, who or token())
        watch = Watch(client, topics, jitter=lambda: jitter, **how)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        self.addCleanup(lambda: Deferred.fromCoroutine(watch.stop()))
        return watch

    async def line(self, world: World) -> Line:
        line = Line(world.port)
        await line.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(line.close()))
        return line

    async def scripted(self, script: Callable[[Any, Message], None]) -> Scripted:
        server = Scripted(script)
        await server.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.close()))
        return server

    async def next(self, watch: Watch, op: str = "event") -> Message:
        """The next message of a kind."""
        async for message in watch:
            if message["op"] == op:
                return message
        raise AssertionError(f"the watch ended before {op} came")

    async def events(self, watch: Watch, count: int) -> list[Message]:
        return [await self.next(watch) for _ in range(count)]

    async def raises(self, kind: type[errors.MsgdError], call: Awaitable[Any]) -> errors.MsgdError:
        """The error that ``call`` raises, of exactly this kind."""
        try:
            result = await call
        except errors.MsgdError as error:
            self.assertIs(type(error), kind, error.message)
            return error
        raise AssertionError(f"no error, but {result!r}")


class FeedTest(WatchCase):
    """What a reader gets."""

    async def test_from_now_on(self) -> None:
        """Without a cursor comes what happens after ``subscribed``, and nothing before."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data="before")])
        watch = self.watch(world.url, "room.a")
        await self.next(watch, "subscribed")
        await world.scribe.record([world.event("room.a", data="after")])
        self.assertEqual((await self.next(watch))["data"], "after")

    async def test_from_a_cursor(self) -> None:
        """After a cursor comes what followed it."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=n) for n in range(5)])
        first = await self.events(self.watch(world.url, "room.a", since="0"), 5)
        self.assertEqual([event["data"] for event in first], [0, 1, 2, 3, 4])
        rest = await self.events(self.watch(world.url, "room.a", since=first[2]["cursor"]), 2)
        self.assertEqual([event["data"] for event in rest], [3, 4])

    async def test_job(self) -> None:
        """A job's snapshot comes before its events."""
        world = await self.world()
        job = await world.job()
        await world.scribe.record([world.event(f"job.{job}", "started", run=1, token=1)])
        watch = self.watch(world.url, f"job.{job}", since="0")
        ops = [(await anext(watch))["op"] for _ in range(3)]
        self.assertEqual(ops, ["subscribed", "state", "event"])

    async def test_overlapping_topics(self) -> None:
        """What several of the topics name comes once, in its order, also after a reconnect."""
        world = await self.world()
        line = await self.line(world)
        watch = self.watch(line.url, "room.*", "#", "room.b", since="0")
        names = ["room.a", "room.b", "app.x"]
        seen: list[tuple[str, int]] = []
        for round_ in range(4):
            await world.scribe.record([world.event(name, data=round_) for name in names for _ in range(3)])
            seen += [(event["topic"], event["seq"]) for event in await self.events(watch, 9)]
            line.cut()
        for name in names:
            self.assertEqual([seq for topic, seq in seen if topic == name], list(range(1, 13)))

    async def test_transient(self) -> None:
        """Transient events are shown and move no cursor."""
        world = await self.world()
        line = await self.line(world)
        job = await world.job()
        watch = self.watch(line.url, f"job.{job}", since="0")
        await world.scribe.record([world.event(f"job.{job}", "started", run=1, token=1)])
        started = await self.next(watch)
        await world.scribe._live(  # progress goes live straight from a worker
            *_live(world.event(f"job.{job}", "progress", {"done": 1}, run=1, token=1, n=1))
        )
        shown = await self.next(watch)
        self.assertEqual((shown["type"], shown["seq"], shown["data"]), ("progress", None, {"done": 1}))
        line.cut()
        await world.scribe.record([world.event(f"job.{job}", "page", run=1, token=1)])
        self.assertEqual((await self.next(watch))["seq"], started["seq"] + 1)

    async def test_gap(self) -> None:
        """What is not kept any more is told as a gap; then come the events that are."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=n) for n in range(10)])
        first = await self.next(self.watch(world.url, "room.a", since="0"))
        await world.journal.trim([Retention("room.*", keep=3)])
        watch = self.watch(world.url, "room.a", since=first["cursor"])
        gap = await self.next(watch, "gap")
        self.assertEqual((gap["topic"], gap["lost"], gap["reason"]), ("room.a", 6, "trimmed"))
        self.assertEqual([event["data"] for event in await self.events(watch, 3)], [7, 8, 9])


def _live(event: Any) -> tuple[str, bytes]:
    from msgd.broker.topology import live_key
    from msgd.messages.live import encode_batch, live_event

    return live_key(event.topic), encode_batch("", [live_event(event)])


class ReconnectTest(WatchCase):
    """Connections that end."""

    async def test_nothing_lost_nothing_twice(self) -> None:
        """However often and wherever the line breaks: each event once, in order."""
        world = await self.world()
        line = await self.line(world)
        watch = self.watch(line.url, "room.a", "app.#", since="0")
        random = Random(7)
        seen: dict[str, list[int]] = {"room.a": [], "app.x.y": [], "app": []}
        recorded = 0
        for _ in range(25):
            count = random.randrange(1, 40)
            await world.scribe.record([world.event(random.choice(list(seen)), data="x" * 300) for _ in range(count)])
            recorded += count
            for _ in range(random.randrange(count + 1)):
                event = await self.next(watch)
                seen[event["topic"]].append(event["seq"])
            if random.random() < 0.6:
                line.cut()
        while sum(map(len, seen.values())) < recorded:
            event = await self.next(watch)
            seen[event["topic"]].append(event["seq"])
        for topic, seqs in seen.items():
            self.assertEqual(seqs, list(range(1, len(seqs) + 1)), topic)
        self.assertGreater(line.calls, 8)

    async def test_from_now_on_stays_there(self) -> None:
        """What happens while a watch from now on is cut off is not lost to it."""
        world = await self.world()
        line = await self.line(world)
        watch = self.watch(line.url, "room.a")
        await self.next(watch, "subscribed")
        line.cut()
        await world.scribe.record([world.event("room.a", data="meanwhile")])
        self.assertEqual((await self.next(watch))["data"], "meanwhile")

    async def test_server_comes_late(self) -> None:
        """A patient watch waits for a server that is not there yet, and says so."""
        world = await self.world()
        port = free_port()
        line = Line(world.port)
        self.addCleanup(lambda: Deferred.fromCoroutine(line.close()))
        told: list[str] = []
        opened: list[Deferred[None]] = []

        def status(text: str) -> None:
            told.append(text)
            if not opened:
                opened.append(Deferred.fromCoroutine(line.open(port)))

        watch = self.watch(f"http://127.0.0.1:{port}", "room.a", on_status=status)
        await self.next(watch, "subscribed")
        self.assertIn("could not be reached", told[0])
        self.assertEqual(told[-1], "connected")

    async def test_impatient(self) -> None:
        """An impatient one fails at once if the first connection does, and waits like all others later."""
        error = await self.raises(
            errors.Unavailable, anext(self.watch(f"http://127.0.0.1:{free_port()}", "a", since="0", patient=False))
        )
        self.assertIn("refused", error.message)
        world = await self.world()
        line = await self.line(world)
        watch = self.watch(line.url, "room.a", patient=False)
        await self.next(watch, "subscribed")
        line.cut()
        await self.next(watch, "subscribed")

    async def test_slow_reader(self) -> None:
        """A reader that does not read holds little in memory, loses its connection at worst, and misses nothing."""
        world = await self.world()
        line = await self.line(world)
        for _ in range(10):
            await world.scribe.record([world.event("room.a", data="x" * 4000) for _ in range(500)])
        watch = self.watch(line.url, "room.a", since="0")
        first = await self.next(watch)
        while watch.ahead < AHEAD_BYTES:
            await pause(0.01)
        before = -1
        while line.bytes > before:  # until it stands still
            before = line.bytes
            await pause(0.2)
        self.assertLess(line.bytes, 16 * 1024 * 1024, "of 20 MB: the rest waits in sockets")
        self.assertLess(watch.ahead, AHEAD_BYTES + 256 * 1024)
        line.cut()
        await pause(0.2)
        self.assertEqual((line.calls, line.standing), (1, 0), "no new connection before there is room")
        seqs = [first["seq"]] + [event["seq"] for event in await self.events(watch, 4999)]
        self.assertEqual(seqs, list(range(1, 5001)))
        self.assertEqual(line.calls, 2)

    async def test_stop(self) -> None:
        """A stopped watch ends its iterator, for a reader that waits too; stopping again does nothing."""
        world = await self.world()
        line = await self.line(world)
        watch = self.watch(line.url, "room.a")
        await self.next(watch, "subscribed")
        waiting = Deferred.fromCoroutine(self._rest(watch))
        await watch.stop()
        self.assertEqual(await waiting, [])
        await watch.stop()
        self.assertEqual(await self._rest(watch), [])
        unused = self.watch(line.url, "room.a")
        await unused.stop()
        self.assertEqual(await self._rest(unused), [])

    async def test_stop_in_every_state(self) -> None:
        """Stopping while it dials, shakes hands, or waits to dial again leaves nothing behind."""
        world = await self.world()
        for moment in (0.0, 0.001, 0.003, 0.01):
            watch = self.watch(world.url, "room.a")
            reading = Deferred.fromCoroutine(self._rest(watch))
            await pause(moment)
            await watch.stop()
            await reading
        watch = self.watch(f"http://127.0.0.1:{free_port()}", "room.a", jitter=1.0)
        reading = Deferred.fromCoroutine(self._rest(watch))
        await pause(0.05)  # the first try fails at once, and the next is half a second away
        await watch.stop()
        self.assertEqual(await reading, [])

    async def _rest(self, watch: Watch) -> list[Message]:
        return [message async for message in watch]


class RefusalsTest(WatchCase):
    """What the server will not have, and the ends that are final."""

    async def test_by_code(self) -> None:
        """Each refusal ends the watch as the error it has in the server, naming what was asked."""
        world = await self.world()
        missing = await self.raises(errors.NotFound, anext(self.watch(world.url, "job.none-such")))
        self.assertIn("none-such", missing.message)
        bad = self.watch(world.url, "room.a", since="rubbish")
        await self.raises(errors.InvalidCursor, anext(bad))
        await self.raises(errors.InvalidCursor, anext(bad))
        bob = token("bob", "subscribe:room.*")
        await self.raises(errors.Forbidden, self._next_event(self.watch(world.url, "room.a", "app.x", who=bob)))
        self.assertRaises(errors.InvalidTopic, self.watch, world.url, "a b")

    async def _next_event(self, watch: Watch) -> Message:
        return await self.next(watch)

    async def test_token(self) -> None:
        """A token that is not trusted, or none, ends it."""
        world = await self.world()
        for who, kind in (("not.a.token", errors.Unauthenticated), (token(ttl_s=-10), errors.TokenExpired)):
            await self.raises(kind, anext(self.watch(world.url, "room.a", who=who)))

    async def test_too_many(self) -> None:
        """A connection too many comes again, at the advised time."""
        world = await self.world(limits=Limits(connections=1))
        told: list[str] = []
        first, second = self.watch(world.url, "room.a"), self.watch(world.url, "room.a", on_status=told.append)
        self.assertEqual((await anext(first))["op"], "subscribed")
        waiting = Deferred.fromCoroutine(self._next_event(second))
        while not told:
            await pause(0.01)
        self.assertIn(f"next try in {CROWDED_S:.1f} s", told[0])
        await second.stop()
        await self.assertFailure(waiting, StopAsyncIteration, AssertionError)

    async def test_wrong_path(self) -> None:
        """Where no msgd answers, an impatient watch says so."""
        world = await self.world()
        error = await self.raises(
            errors.Unavailable, anext(self.watch(world.url + "/elsewhere", "room.a", patient=False))
        )
        self.assertIn("404", error.message)

    async def test_final_codes(self) -> None:
        """Close codes of 4100 and more end it; nothing is tried again."""
        for code, kind in ((4100, errors.PeerError), (4101, errors.Unauthenticated), (4103, errors.Forbidden)):

            def close(connection: Any, operation: Message, code: int = code) -> None:
                connection.sendClose(code, "go away")

            server = await self.scripted(close)
            error = await self.raises(kind, anext(self.watch(server.url, "room.a")))
            self.assertIn("go away", error.message)
            self.assertEqual(len(server.operations), 1)

    async def test_drain(self) -> None:
        """A server that stops says when to come back, and that is heeded."""
        told: list[str] = []

        def script(connection: Any, operation: Message) -> None:
            if len(server.operations) == 1:
                connection.say("drain", reconnect_in=0.25)
                connection.sendClose(4000, "this server is stopping")
            else:
                connection.say("subscribed", topic="room.a", cursor="e-1", ref=0)

        server = await self.scripted(script)
        watch = self.watch(server.url, "room.a", jitter=1.0, on_status=told.append)
        await self.next(watch, "subscribed")
        self.assertEqual(len(told), 2)
        self.assertIn("stopping; next try in 0.2 s", told[0])

    async def test_what_passes(self) -> None:
        """A refusal for a reason that passes is tried again, after the time the server says or the usual one."""
        told: list[str] = []

        def script(connection: Any, operation: Message) -> None:
            number = len(server.operations)
            if number == 1:
                connection.say("error", ref=0, code="overloaded", message="too much", retry_after=0.11)
            elif number == 2:
                connection.say("error", ref=0, code="database-unavailable", message="no database")
            else:
                connection.say("subscribed", topic="room.a", cursor="e-1", ref=0)

        server = await self.scripted(script)
        await self.next(self.watch(server.url, "room.a", jitter=0.1, on_status=told.append), "subscribed")
        self.assertEqual(told[0], "too much; next try in 0.1 s")
        self.assertEqual(told[1], f"no database; next try in {FIRST_WAIT_S * 2 * 0.1:.1f} s")

    async def test_garbage(self) -> None:
        """A server that does not speak msgd.v1 ends an impatient watch; a patient one waits for better."""
        for garbage in (b"{nope", b"[]", b'{"op":"event"}', b'{"op":"event","topic":7,"seq":1}', b"\xff"):

            def script(connection: Any, operation: Message, garbage: bytes = garbage) -> None:
                connection.sendMessage(garbage, garbage == b"\xff")

            server = await self.scripted(script)
            error = await self.raises(errors.PeerError, anext(self.watch(server.url, "room.a", patient=False)))
            self.assertIn("does not speak msgd.v1", error.message)

    async def test_renewal(self) -> None:
        """Before its token ends a new one is shown, if there is one; never the same again."""
        tokens = ["first", "second", "second"]

        def script(connection: Any, operation: Message) -> None:
            if operation["op"] == "subscribe":
                connection.say("subscribed", topic="room.a", cursor="e-1", ref=0)
            connection.say("expiring", **{"in": 60})
            if len(tokens) == 1:
                connection.say("event", topic="room.a", seq=1, cursor="e-2", id="1", type="x", source="", data=None)

        server = await self.scripted(script)
        watch = self.watch(server.url, "room.a", who=lambda: tokens[0] if len(tokens) == 1 else tokens.pop(0))
        await self.next(watch)
        self.assertEqual([one.get("token") for one in server.operations], [None, "second"])
