"""Event streams: what a WebSocket shows, over plain HTTP."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.topology import LIVE
from msgd.config.settings import Notifier as Settings
from msgd.messages.cursors import Cursor
from msgd.messages.envelope import Message
from msgd.messages.live import encode_batch, live_event
from msgd.messages.topics import bucket
from msgd.notifier import operations as ops
from msgd.notifier.interface import Principal
from msgd.notifier.limits import HEARTBEAT_S, STALL_S
from msgd.notifier.streams import EventStream, wants_stream
from tests.notifier.eventsource import EventSource, listen
from tests.notifier.test_handshake import BROWSER
from tests.notifier.world import TTL_S, World, WorldCase, token

TOPIC = "/api/topics/room.a/events"


class StreamCase(WorldCase):
    async def listen(self, world: World, path: str, **how: Any) -> EventSource:
        """A client that goes away at the end of the test."""
        source = await listen(world.port, path, **how)
        self.addCleanup(source.close)
        return source


class StreamTest(StreamCase):
    async def test_head(self) -> None:
        """The head and the first bytes come at once, with what proxies need to know; the client is told how long to
        wait before it connects anew. HEAD has the same head, and ends."""
        world = await self.world()
        source = await self.listen(world, TOPIC)
        self.assertEqual(
            (source.status, source.headers["content-type"], source.headers["cache-control"]),
            (200, "text/event-stream", "no-store, no-transform"),
        )
        self.assertEqual(source.headers["x-accel-buffering"], "no")
        await source.until(lambda: source.interpreter.retry_ms is not None)
        self.assertTrue(1000 <= (source.interpreter.retry_ms or 0) <= 2000)
        only_head = await self.listen(world, TOPIC, method="HEAD")
        await only_head.end()
        self.assertEqual((only_head.headers["content-type"], only_head.body), ("text/event-stream", b""))

    async def test_live(self) -> None:
        """Without a place: from now on. Each event is the WebSocket's message, and its place is its cursor."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data="before")])
        source = await self.listen(world, TOPIC)
        subscribed, place = await source.next("subscribed")
        self.assertEqual((subscribed["op"], subscribed["topic"], subscribed["cursor"]), ("subscribed", "room.a", place))
        (recorded,) = await world.scribe.record([world.event("room.a", data={"text": "hé\nho"})])
        message, place = await source.next("message")
        self.assertEqual((message["op"], message["seq"], message["cursor"]), ("event", recorded.seq, place))
        self.assertEqual(message["data"], {"text": "hé\nho"})

    async def test_several(self) -> None:
        """Several topics and patterns are one sequence in the order of the journal, under one cursor: ``Last-Event-ID``
        resumes all of them, and wins over ``since``."""
        world = await self.world()
        events = [world.event(f"room.{'ab'[n % 2]}", data=n) for n in range(6)]
        recorded = await world.scribe.record([*events, world.event("user.bob", data="no")])
        epoch = (await world.journal.head()).epoch
        path = "/api/events?topics=room.a,room.*&since=0"
        source = await self.listen(world, path)
        self.assertEqual([one["data"] for one in await source.events(6)], list(range(6)))
        place = str(Cursor(epoch, recorded[3].pos))
        again = await self.listen(world, path, headers={"Last-Event-ID": place})
        await world.scribe.record([world.event("room.c", data=6)])
        self.assertEqual([one["data"] for one in await again.events(3)], [4, 5, 6])

    async def test_job(self) -> None:
        """Of a job's topic the snapshot comes first; progress is shown without a place, so that the client's stays."""
        world = await self.world()
        job = await world.job()
        source = await self.listen(world, f"/api/topics/job.{job}/events", who=token("ann", "submit:#"))
        state, place = await source.next("state")
        self.assertEqual((state["op"], state["job"]["state"], state["job"]["id"]), ("state", "queued", job))
        event = world.event(f"job.{job}", "progress", {"done": 1}, run=1, token=1, n=1)
        body = encode_batch("", [live_event(event)])
        await world.broker.publish(LIVE, str(bucket(event.topic)), Message(body=body, persistent=False))
        message, after = await source.next("message")
        self.assertEqual((message["type"], message["seq"], message["cursor"], after), ("progress", None, None, place))

    async def test_snapshot_and_first_event(self) -> None:
        """What happens while a job's snapshot is fetched comes after it: nothing is lost between the two, and nothing
        comes before it that would set the client back."""
        world = await self.world()
        job = await world.job()
        numbers = iter(range(100))
        get = world.jobs.get

        async def busy(id_: str) -> Any:
            found = await get(id_)
            (recorded,) = await world.scribe.record([world.event(f"job.{job}", "result", next(numbers))])
            while world.notifier._feed.released < recorded.pos:
                await world.scribe.idle()
            return found

        self.patch(world.jobs, "get", busy)
        source = await self.listen(world, f"/api/topics/job.{job}/events")
        message, place = await source.next("message")
        self.assertEqual([type_ for type_, _, _ in source.heard], ["subscribed", "state", "message"])
        self.assertEqual((message["data"], place), (1, message["cursor"]))

    async def test_gap(self) -> None:
        """What is lost is said, once: the gap moves the client's place, so that connecting anew does not repeat it."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=1)])
        source = await self.listen(world, TOPIC, headers={"Last-Event-ID": "other-7"})
        gap, place = await source.next("gap")
        self.assertEqual((gap["topic"], gap["requested"], gap["reason"]), ("room.a", "other-7", "epoch"))
        again = await self.listen(world, TOPIC, headers={"Last-Event-ID": place})
        await again.events(1)
        self.assertNotIn("gap", [type_ for type_, _, _ in again.heard])

    async def test_refusals(self) -> None:
        """What is wrong is a problem document before the stream begins: rights, cursors, what belongs to pages."""
        world = await self.world()
        ann = token("ann", "subscribe:room.a")
        for path, who, headers, expected in (
            ("/api/topics/room.b/events", ann, {}, 403),
            ("/api/events?topics=room.a,room.*", ann, {}, 403),
            ("/api/topics/job.nobody/events", ann, {}, 404),
            (TOPIC, "forged", {}, 401),
            (TOPIC + "?since=nonsense", ann, {}, 400),
            (TOPIC, ann, {"Last-Event-ID": "x" * 5000}, 400),
            (TOPIC + "?wait=5", ann, {}, 400),
            (TOPIC, ann, {"Accept": "text/html"}, 406),
            ("/api/events?topics=" + ",".join(f"t{n}" for n in range(33)), ann, {}, 400),
        ):
            source = await self.listen(world, path, who=who, headers=headers)
            await source.end()
            self.assertEqual(source.status, expected, path)
        self.assertEqual(world.doors(), [])

    async def test_oversized_head(self) -> None:
        """A head beyond all measure ends the connection, and nobody else's."""
        world = await self.world()
        source = await self.listen(world, TOPIC)
        await source.next("subscribed")
        for headers in ({"X-Large": "x" * 40_000}, {f"X-{n}": "x" * 100 for n in range(1000)}):
            refused = await self.listen(world, TOPIC, headers=headers)
            await refused.end()
            self.assertIn(refused.status, (0, 400))
        self.assertEqual(len(world.doors()), 1)
        await world.scribe.record([world.event("room.a", data=1)])
        await source.events(1)

    async def test_client_goes_away(self) -> None:
        """A client that is gone leaves nothing behind, at once."""
        world = await self.world()
        source = await self.listen(world, TOPIC)
        await source.next("subscribed")
        (door,) = world.doors()
        source.close()
        await door.over
        self.assertEqual((world.doors(), world.notifier._feed.listened), ([], []))

    async def test_client_that_vanishes(self) -> None:
        """Of a client that vanished without a word TCP is told to give up within a minute."""
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        world = await self.world()
        source = await self.listen(world, TOPIC)
        await source.next("subscribed")
        (door,) = world.doors()
        waits_ms = door._transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        self.assertEqual(waits_ms, STALL_S * 1000)

    async def test_slow_reader(self) -> None:
        """A client that does not read becomes a cursor: little waits for it; when it reads again it gets everything."""
        world = await self.world()
        source = await self.listen(world, TOPIC)
        await source.next("subscribed")
        (door,) = world.doors()
        source.transport.pauseProducing()
        text = "x" * 100_000
        sent = 0
        while not (door._backlog.full and door._reader is not None and not door._reader.live):
            await world.scribe.record([world.event("room.a", data=[sent + n, text]) for n in range(10)])
            sent += 10
        await world.scribe.record([world.event("room.a", data=[sent, text])])
        source.transport.resumeProducing()
        self.assertEqual([one["data"][0] for one in await source.events(sent + 1)], list(range(sent + 1)))

    async def test_expiry(self) -> None:
        """The end of a token is told a minute before, then the stream says so and ends."""
        world = await self.world()
        source = await self.listen(world, TOPIC, who=token(ttl_s=TTL_S))
        expiring, _ = await source.next("expiring")
        self.assertEqual((expiring["op"], expiring["in"] <= TTL_S), ("expiring", True))
        await source.next("expired")
        await source.end()
        self.assertEqual(world.doors(), [])

    async def test_closed(self) -> None:
        """Whoever is shown the door is told why."""
        world = await self.world()
        source = await self.listen(world, TOPIC, who=token("ann"))
        await source.next("subscribed")
        (door,) = world.notifier.doors.of("ann")
        door.close(ops.BAD_TOKEN, "revoked")
        said, _ = await source.next("close")
        self.assertEqual((said["code"], said["reason"]), (4101, "revoked"))
        await source.end()

    async def test_drain(self) -> None:
        """A server that stops says when to come back, in words and in the stream's own way, and ends the stream."""
        world = await self.world()
        source = await self.listen(world, TOPIC)
        await source.next("subscribed")
        await world.notifier.stop()
        drain, _ = await source.next("drain")
        await source.end()
        self.assertEqual(source.interpreter.retry_ms, round(drain["reconnect_in"] * 1000))
        self.assertTrue(0 <= drain["reconnect_in"] <= 5)

    async def test_too_many_at_once(self) -> None:
        """Beyond the pace of openings an event stream is told when to come again, in a form after which browsers do; so
        is a WebSocket, with 503."""
        world = await self.world(Settings(handshakes=1))
        world.stop_time()
        await (await self.listen(world, TOPIC)).next("subscribed")
        late = await self.listen(world, TOPIC)
        drain, _ = await late.next("drain")
        await late.end()
        self.assertTrue(1 <= drain["reconnect_in"] <= 11)
        self.assertTrue(1000 <= (late.interpreter.retry_ms or 0) <= 11_000)
        status, body, response = await world.call("GET", "/ws", headers=BROWSER)
        self.assertEqual((status, body["code"]), (503, "overloaded"))
        self.assertTrue(response.headers.hasHeader("retry-after"))


class PreferenceTest(SynchronousTestCase):
    def test_accept(self) -> None:
        """A stream is given to whoever asks for one, unless JSON is liked better."""
        for accept, expected in (
            ("text/event-stream", True),
            ("TEXT/EVENT-STREAM; q=0.5", True),
            ("text/event-stream, application/json", True),
            ("application/json, text/event-stream;q=0.9", False),
            ("text/event-stream;q=0, */*", False),
            ("text/event-stream;q=x", False),
            ("*/*", False),
            ("", False),
        ):
            self.assertEqual(wants_stream(accept), expected, accept)


class Request:
    """What a stream writes to."""

    def __init__(self) -> None:
        self.channel = self
        self.transport = self
        self.written: list[bytes] = []
        self.aborted = False
        self._disconnected = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Not asked."""

    def unregisterProducer(self) -> None:
        """Not asked."""

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abortConnection(self) -> None:
        self.aborted = True


class Place:
    """A reader, as far as a stream's heartbeat asks it."""

    cursor = ""


class TimersTest(SynchronousTestCase):
    """What a stream does as time passes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.request = Request()
        principal = Principal(sub="ann", expires_s=1000.0)
        self.stream = EventStream(self.request, principal, self.clock)
        self.stream.open(1000)
        self.reader = Place()
        self.stream.reads_by(self.reader)
        self.request.written.clear()

    def test_heartbeat(self) -> None:
        """Every 25 s a comment; where the reader has come further it moves the client's place too. Nothing is added to
        what waits for a full socket."""
        self.clock.advance(HEARTBEAT_S)
        self.reader.cursor = "abc-7"
        self.clock.advance(HEARTBEAT_S)
        self.clock.advance(HEARTBEAT_S)
        self.assertEqual(self.request.written, [b":\n\n", b":\n\nid: abc-7\n\n", b":\n\n"])
        self.stream.pauseProducing()
        self.clock.advance(HEARTBEAT_S)
        self.assertEqual(len(self.request.written), 3)
        self.stream.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stall(self) -> None:
        """A client that has taken nothing for a minute is cut off; one that takes something is not."""
        self.stream.pauseProducing()
        self.clock.advance(STALL_S - 1)
        self.stream.resumeProducing()
        self.stream.pauseProducing()
        self.clock.advance(STALL_S - 1)
        self.assertFalse(self.request.aborted)
        self.clock.advance(1)
        self.assertTrue(self.request.aborted)

    def test_renewal_warning(self) -> None:
        """A minute before the token's end the client is warned; at its end the stream ends."""
        self.clock.advance(940)
        self.assertIn(b'event: expiring\ndata: {"op":"expiring","in":60}\n\n', self.request.written)
        self.clock.advance(60)
        self.assertEqual(self.request.written[-1], b'event: expired\ndata: {"op":"expired"}\n\n')
        self.assertTrue(self.stream.over.called)
        self.stream.end()
