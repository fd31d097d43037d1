"""``msgd.v1`` over real WebSockets."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from msgd.config.settings import Notifier as Settings
from msgd.jobs.interface import Need, TypeInfo
from msgd.journal.interface import Retention
from msgd.messages.envelope import Message
from msgd.messages.live import encode_batch, live_event
from msgd.messages.topics import bucket
from msgd.notifier import ring
from msgd.notifier.limits import BUFFER_BYTES, FRAME_BYTES, SUBSCRIPTIONS
from tests.notifier.socket import Client
from tests.notifier.world import TTL_S, World, WorldCase, pause, token


class SocketCase(WorldCase):
    """A test with clients."""

    async def client(self, world: World, **how: Any) -> Client:
        client = await Client().connect(world, **how)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client


class ConversationTest(SocketCase):
    """Operations and their answers."""

    async def test_welcome(self) -> None:
        """A handshake with a token is welcomed at once."""
        world = await self.world()
        client = await self.client(world)
        welcome = await client.next("welcome")
        self.assertEqual((welcome["sub"], welcome["heartbeat"]), ("ann", 25))

    async def test_live_events(self) -> None:
        """A subscriber is shown what happens from now on, in order, with cursors."""
        world = await self.world()
        client = await self.client(world)
        await world.scribe.record([world.event("room.a", data="before")])
        subscribed = await client.subscribe("room.a")
        self.assertEqual(subscribed["op"], "subscribed")
        await world.scribe.record([world.event("room.a", data=1), world.event("room.b", data=2)])
        await world.scribe.record([world.event("room.a", data=3)])
        first, second = await client.events(2)
        self.assertEqual([(e["data"], e["seq"]) for e in (first, second)], [(1, 2), (3, 3)])
        self.assertNotIn("subscription", first)

    async def test_resume(self) -> None:
        """After a cursor comes what followed it, then what happens."""
        world = await self.world()
        await world.scribe.record([world.event("room.a", data=n) for n in range(1200)])
        client = await self.client(world)
        await client.subscribe("room.a", "0")
        events = await client.events(1200)
        self.assertEqual([e["data"] for e in events], list(range(1200)))
        again = await self.client(world)
        await again.subscribe("room.a", events[1000]["cursor"])
        await world.scribe.record([world.event("room.a", data="new")])
        self.assertEqual([e["data"] for e in await again.events(200)], [*range(1001, 1200), "new"])

    async def test_publish(self) -> None:
        """What one client publishes another is shown, with the publisher's sub as its source."""
        world = await self.world()
        await world.scribe.listen()
        ann = await self.client(world)
        await ann.subscribe("room.*")
        bob = await self.client(world, who=token("bob", "publish:room.#"))
        answer = await bob.answer("publish", topic="room.a", type="said", data={"text": "hi"}, id="1")
        self.assertEqual((answer["op"], answer["id"]), ("ok", "1"))
        event = await ann.next("event")
        self.assertEqual((event["source"], event["data"], event["subscription"]), ("bob", {"text": "hi"}, "room.*"))

    async def test_job_state_first(self) -> None:
        """On a job's topic its snapshot comes before anything else."""
        world = await self.world()
        job = await world.job()
        client = await self.client(world, who=token("ann", "submit:paint"))
        await client.subscribe(f"job.{job}", "0")
        message = await client.next(lambda _: True)
        self.assertEqual((message["op"], message["job"]["state"]), ("state", "queued"))

    async def test_snapshot_and_first_event(self) -> None:
        """Nothing is lost between a job's snapshot and the first event after it."""
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

        client = await self.client(world)
        self.patch(world.jobs, "get", busy)
        await client.subscribe(f"job.{job}")
        self.assertEqual((await client.next("event"))["data"], 1)
        self.assertEqual([message["op"] for message in client.messages], ["welcome", "subscribed", "state", "event"])

    async def test_lost_live_messages(self) -> None:
        """What live messages do not bring is read from the journal as soon as a head tells of it."""
        world = await self.world()
        client = await self.client(world)
        await client.subscribe("room.a")
        world.scribe.lose = lambda exchange, key: key != "head"
        await world.scribe.record([world.event("room.a", data=1)])
        world.scribe.lose = lambda exchange, key: True
        await world.scribe.record([world.event("room.a", data=2)])
        world.scribe.lose = lambda exchange, key: False
        await world.scribe.idle()
        self.assertEqual([e["data"] for e in await client.events(2)], [1, 2])


class RefusalTest(SocketCase):
    """What is refused, and how. The others never notice."""

    async def test_needs(self) -> None:
        """A job whose params take a right is submitted by who has it."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="copy", needs=(Need("publish", "to"),)))
        client = await self.client(world, who=token("bob", "submit:copy", "publish:app.*"))
        await client.next("welcome")
        client.raw(b'{"op":"submit","type":"copy","params":{"to":"room.a"},"ref":"r"}')
        self.assertEqual((await client.next("error"))["code"], "forbidden")
        client.raw(b'{"op":"submit","type":"copy","params":{"to":"app.x"},"ref":"s"}')
        self.assertEqual((await client.next("ok"))["ref"], "s")

    async def test_wrong_operations(self) -> None:
        """A message that is no operation is answered with an error, its ref if it has one, and nothing ends."""
        world = await self.world()
        client = await self.client(world)
        await client.next("welcome")
        for payload, code in (
            (b"{", "not-json"),
            (b"[]", "invalid"),
            (b'{"op":"fly","ref":"r"}', "invalid"),
            (b'{"op":"subscribe","ref":"r"}', "invalid"),
            (b'{"op":"subscribe","topic":"a..b","ref":"r"}', "invalid-topic"),
            (b'{"op":"subscribe","topic":"a","since":"x","ref":"r"}', "invalid-cursor"),
            (b'{"op":"unsubscribe","topic":"a","ref":"r"}', "invalid"),
            (b'{"op":"publish","topic":"job.1","type":"x","ref":"r"}', "forbidden"),
            (b'{"op":"submit","type":"dance","ref":"r"}', "unknown-type"),
            (b'{"op":"submit","type":"paint","params":{"colour":1},"ref":"r"}', "invalid-params"),
            (b'{"op":"cancel","job":"none","ref":"r"}', "not-found"),
            (b"[" * 30_000, "invalid"),
            (b'{"op":"ping","ref":"r","data":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "not-json"),
        ):
            client.raw(payload)
            error = await client.next("error")
            self.assertEqual(error["code"], code, str(payload)[:60])
            self.assertEqual(error.get("ref"), "r" if b'"ref"' in payload and code != "not-json" else None)
        self.assertEqual((await client.answer("ping"))["op"], "ok")

    async def test_no_json_at_all(self) -> None:
        """Bad UTF-8 ends the connection with 1007, binary messages with 4100, oversized ones with 1009."""
        world = await self.world()
        for send, code in (
            (lambda client: client.protocol.sendFrame(opcode=1, payload=b"\xff\xfe"), 1007),
            (lambda client: client.raw(b"{}", binary=True), 4100),
            (lambda client: client.raw(b'"' + b"x" * FRAME_BYTES + b'"'), 1009),
            (lambda client: client.protocol.sendFrame(opcode=3, payload=b""), 1002),
            (lambda client: client.protocol.sendFrame(opcode=1, payload=b"x", rsv=4), 1002),
        ):
            client = await self.client(world)
            send(client)
            found, _ = await client.ended
            self.assertEqual(found, code)

    async def test_rights(self) -> None:
        """Topics need a grant that covers them; other people's jobs are not there."""
        world = await self.world()
        job = await world.job("ann")
        bob = await self.client(world, who=token("bob", "subscribe:room.*"))
        for topic, answer in (
            ("room.a", "subscribed"),
            ("room.*", "subscribed"),
            ("user.bob.inbox", "subscribed"),
            ("room.#", "forbidden"),
            ("#", "forbidden"),
            ("user.ann", "forbidden"),
            ("job.*", "forbidden"),
            (f"job.{job}", "not-found"),
            ("job.none", "not-found"),
        ):
            found = await bob.subscribe(topic)
            self.assertEqual(found.get("code", found["op"]), answer, topic)

    async def test_twice_and_too_many(self) -> None:
        """A topic is subscribed to once, and a connection has so many subscriptions; ending one makes room."""
        world = await self.world()
        client = await self.client(world)
        for number in range(SUBSCRIPTIONS):
            self.assertEqual((await client.subscribe(f"room.{number}"))["op"], "subscribed")
        self.assertEqual((await client.subscribe("room.1"))["code"], "conflict")
        self.assertEqual((await client.subscribe("room.x"))["code"], "overloaded")
        self.assertEqual((await client.answer("unsubscribe", topic="room.1"))["op"], "ok")
        self.assertEqual((await client.subscribe("room.x"))["op"], "subscribed")
        await world.scribe.record([world.event("room.1", data=1), world.event("room.x", data=2)])
        self.assertEqual((await client.next("event"))["data"], 2)

    async def test_bad_token(self) -> None:
        """A token that is not good, in the handshake or in hello, ends the connection with 4101."""
        world = await self.world()
        client = await self.client(world, who="spoilt")
        self.assertEqual((await client.ended)[0], 4101)
        client = await self.client(world, who=None)
        client.say("hello", token="spoilt", ref=1)
        self.assertEqual((await client.next("error"))["code"], "unauthenticated")
        self.assertEqual((await client.ended)[0], 4101)
        client = await self.client(world, who=None)
        client.say("subscribe", topic="room.a")
        self.assertEqual((await client.ended)[0], 4101)

    async def test_hello_and_renewal(self) -> None:
        """A connection without a token says hello; it renews in band, for the same principal only, and loses what the
        new token does not allow."""
        world = await self.world()
        client = await self.client(world, who=None)
        client.say("hello", token=token("ann", "subscribe:room.#"), ref=1)
        self.assertEqual((await client.next("welcome"))["sub"], "ann")
        await client.subscribe("room.a")
        await client.subscribe("room.b")
        answer = await client.answer("token", token=token("ann", "subscribe:room.b"))
        self.assertEqual(answer["op"], "ok")
        await world.scribe.record([world.event("room.a"), world.event("room.b")])
        self.assertEqual((await client.next("event"))["topic"], "room.b")
        client.say("token", token=token("bob"))
        self.assertEqual((await client.ended)[0], 4103)

    async def test_expiry(self) -> None:
        """A token about to expire is announced; one that has expired ends the connection."""
        world = await self.world()
        client = await self.client(world, who=token("ann", ttl_s=TTL_S))
        self.assertLessEqual((await client.next("expiring"))["in"], TTL_S)
        self.assertEqual((await client.ended)[0], 4101)

    async def test_origins(self) -> None:
        """Pages of other sites do not get a WebSocket; our own and those on the list do; no page at all does too."""
        world = await self.world(Settings(origins=("https://dash.example.com",), cors=("https://app.example.com",)))
        own = f"http://127.0.0.1:{world.port}"
        for origin, allowed in (
            (own, True),
            ("https://dash.example.com", True),
            ("https://app.example.com", True),
            ("https://evil.example", False),
            ("null", False),
            (own + "0", False),
        ):
            client = await self.client(world, headers={"Origin": origin})
            self.assertEqual(client.protocol is not None, allowed, origin)

    async def test_cookie(self) -> None:
        """The dashboard's cookie speaks for its connection, if a page of the dashboard opens it."""
        world = await self.world(Settings(cors=("https://app.example.com",)))
        headers = {"Cookie": f"a=b; msgd={token('eve')}", "Origin": world.url}
        client = await self.client(world, who=None, headers=headers)
        self.assertEqual((await client.next("welcome"))["sub"], "eve")
        # A page that may connect with a token of its own is nobody before it has sent it.
        client = await self.client(world, who=None, headers={**headers, "Origin": "https://app.example.com"})
        client.say("hello", token=token("ann"))
        self.assertEqual((await client.next("welcome"))["sub"], "ann")

    async def test_subprotocol(self) -> None:
        """Who speaks another subprotocol is refused in the handshake."""
        world = await self.world()
        client = await self.client(world, subprotocol="mqtt")
        self.assertIsNone(client.protocol)


class SlowReaderTest(SocketCase):
    """A reader that does not read costs nothing, and misses nothing."""

    async def test_becomes_a_cursor(self) -> None:
        """While its socket is full nothing is kept for a client; then it is fed from the journal, in order."""
        world = await self.world()
        client = await self.client(world)
        await client.subscribe("room.a")
        client.protocol.transport.pauseProducing()
        (connection,) = world.doors()
        total = 0
        while total < 3 * BUFFER_BYTES or connection._waiting < BUFFER_BYTES // 2:
            await world.scribe.record([world.event("room.a", data="x" * 10_000) for _ in range(100)])
            total += 100 * 10_000
            # What waits here is bounded; the kernel holds some more.
            self.assertLess(connection._waiting, BUFFER_BYTES + 20_000)
            self.assertLess(len(connection.transport.dataBuffer) + _temporary(connection), BUFFER_BYTES + 200_000)
            if total > 60 * BUFFER_BYTES:
                break
        client.protocol.transport.resumeProducing()
        seqs = [event["seq"] for event in await client.events(total // 10_000)]
        self.assertEqual(seqs, list(range(1, len(seqs) + 1)))
        await world.scribe.record([world.event("room.a", data="live again")])
        self.assertEqual((await client.next("event"))["data"], "live again")

    async def test_trimmed_while_away(self) -> None:
        """What retention removed before a slow reader came to it is announced as a gap."""
        self.patch(ring, "RING_EVENTS", 5)  # else memory would still have it
        world = await self.world()
        client = await self.client(world)
        await client.subscribe("room.a")
        client.protocol.transport.pauseProducing()
        (connection,) = world.doors()
        count = 0
        assert connection._session is not None
        (reader,) = connection._session._interests._readers.values()
        while not reader._place.live:
            await pause(0)
        while reader._place.live and count < 20_000:
            await world.scribe.record([world.event("room.a", data="x" * 10_000) for _ in range(100)])
            count += 100
        await world.scribe.record([world.event("room.a", data="x" * 10_000) for _ in range(50)])
        while await world.journal.trim([Retention("room.a", keep=10)]):
            pass
        client.protocol.transport.resumeProducing()
        gap = await client.next("gap")
        self.assertEqual((gap["topic"], gap["reason"], gap["first"]), ("room.a", "trimmed", count + 41))
        seen = [message["seq"] for message in client.messages if message["op"] == "event"]
        self.assertEqual(gap["lost"], count + 40 - seen[-1])
        self.assertEqual(seen, list(range(1, len(seen) + 1)))
        self.assertEqual([event["seq"] for event in await client.events(10)], list(range(count + 41, count + 51)))


class ChangesTest(SocketCase):
    """What happens around a connection."""

    async def test_new_epoch(self) -> None:
        """When the journal begins a new life, readers are told, and go on in it."""
        world = await self.world()
        client = await self.client(world)
        await client.subscribe("room.a")
        await world.scribe.record([world.event("room.a", data=1)])
        old = (await client.next("event"))["cursor"].partition("-")[0]
        await world.journal.renew_epoch()
        await world.scribe.record([world.event("room.a", data=2)])
        gap = await client.next("gap")
        self.assertEqual((gap["reason"], gap["requested"]), ("epoch", f"{old}-1"))
        events = await client.events(2)
        self.assertEqual([event["data"] for event in events], [1, 2])
        self.assertNotIn(old, events[0]["cursor"])

    async def test_broker_comes_late(self) -> None:
        """History is shown although there is no broker; live events follow when there is one."""
        world = await self.world(broker=False)
        client = await self.client(world)
        self.assertEqual((await client.subscribe("room.a", "0"))["op"], "subscribed")
        world.scribe.lose = lambda exchange, key: True
        await world.scribe.record([world.event("room.a", data="kept")])
        self.assertEqual((await client.next("event"))["data"], "kept")
        await world.broker.start()
        world.scribe.lose = lambda exchange, key: False
        await world.scribe.record([world.event("room.a", data="live")])
        self.assertEqual((await client.next("event"))["data"], "live")

    async def test_progress_in_order(self) -> None:
        """Progress older than what was shown, or after the end, is not shown."""
        world = await self.world()
        job = await world.job()
        client = await self.client(world)
        await client.subscribe(f"job.{job}")
        await client.next("state")

        async def progress(number: int, token_: int = 1) -> None:
            event = world.event(f"job.{job}", "progress", number, run=1, token=token_, n=number)
            body = encode_batch("", [live_event(event)])
            await world.broker.publish("msgd.live", str(bucket(event.topic)), Message(body=body, persistent=False))

        for number in (1, 3, 2, 4):
            await progress(number)
        shown = await client.events(3)
        self.assertEqual([(event["data"], event["seq"]) for event in shown], [(1, None), (3, None), (4, None)])
        await world.scribe.record([world.event(f"job.{job}", "done", run=1, token=2)])
        self.assertEqual((await client.next("event"))["type"], "done")
        await progress(9, 2)
        await world.scribe.record([world.event(f"job.{job}", "after", run=2, token=3)])
        self.assertEqual((await client.next("event"))["type"], "after")

    async def test_drain(self) -> None:
        """On stop clients are told when to come back, each at a moment of its own, and sent away."""
        world = await self.world()
        clients = [await self.client(world) for _ in range(3)]
        await world.notifier.stop()
        moments = set()
        for client in clients:
            moments.add((await client.next("drain"))["reconnect_in"])
            self.assertEqual((await client.ended)[0], 4000)
        self.assertTrue(all(0 <= moment <= 5 for moment in moments))
        self.assertEqual(len(moments), 3)

    async def test_nothing_stays(self) -> None:
        """A connection that ends leaves no reader and no use of a bucket behind."""
        world = await self.world()
        client = await self.client(world)
        for topic in ("room.a", "room.*"):
            await client.subscribe(topic)
        client.say("subscribe", topic="room.b", since="0")
        client.protocol.transport.abortConnection()
        feed = world.notifier._feed
        while feed.buckets.used or feed.listened:
            await pause(0)
        self.assertEqual([], world.doors())

    async def test_random_losses(self) -> None:
        """Whatever live messages are lost, whenever clients come and go: each event once, in order, to each reader."""
        random = Random(20261121)
        world = await self.world()
        world.scribe.lose = lambda exchange, key: random.random() < 0.3
        cursors: list[str] = ["0"] * 4
        seen: list[list[int]] = [[] for _ in cursors]
        count = 0
        for _ in range(12):
            clients = []
            for cursor in cursors:
                client = await self.client(world)
                await client.subscribe(random.choice(("room.a", "room.*")), cursor)
                clients.append(client)
            for _ in range(random.randrange(1, 6)):
                topics = random.choices(("room.a", "app.b"), k=random.randrange(1, 8))
                await world.scribe.record([world.event(topic) for topic in topics])
                count += topics.count("room.a")
            if random.random() < 0.5:
                for client in clients:
                    client.protocol.transport.abortConnection()
            else:
                world.scribe.lose = lambda exchange, key: False
                await world.scribe.idle()
                world.scribe.lose = lambda exchange, key: random.random() < 0.3
                for client, shown in zip(clients, seen, strict=True):
                    while len(shown) + len([m for m in client.messages if m["op"] == "event"]) < count:
                        await pause(0.01)
                    await client.close()
            for number, client in enumerate(clients):
                await client.ended
                events = [message for message in client.messages if message["op"] == "event"]
                seen[number].extend(event["seq"] for event in events)
                if events:
                    cursors[number] = events[-1]["cursor"]
        for shown in seen:
            self.assertEqual(shown, list(range(1, len(shown) + 1)))


class FuzzTest(SocketCase):
    """Whatever bytes come, the server stands, and others are served."""

    async def test_random_bytes(self) -> None:
        """Random bytes after the handshake end that connection and no other."""
        random = Random(7)
        world = await self.world()
        other = await self.client(world)
        await other.subscribe("room.a")
        for _ in range(60):
            client = await self.client(world)
            client.protocol.transport.write(random.randbytes(random.randrange(1, 400)))
            client.protocol.transport.loseConnection()
            await client.ended
        await world.scribe.record([world.event("room.a", data="still here")])
        self.assertEqual((await other.next("event"))["data"], "still here")

    async def test_random_operations(self) -> None:
        """Random JSON is answered, or the connection properly closed; nothing unexpected is logged."""
        random = Random(8)
        words = ["subscribe", "hello", "token", "publish", "room.a", "0", 1, -1, None, [], {}, True, 1e99, "x" * 300]
        world = await self.world()
        client = await self.client(world)
        for _ in range(400):
            if not client.open:
                await client.ended
                client = await self.client(world)
            fields = {random.choice(("topic", "since", "token", "ref", "data", "type", "job")): random.choice(words)}
            op = random.choice(("subscribe", "unsubscribe", "publish", "submit", "cancel", "hello", "token", "ping"))
            client.say(op, **{**fields, random.choice(("topic", "id", "key")): random.choice(words)})
            await pause(0)
        self.assertEqual(self.flushLoggedErrors(), [])


def _temporary(connection: Any) -> int:
    """What Twisted has not even joined to its buffer yet."""
    return sum(len(piece) for piece in connection.transport._tempDataBuffer)
