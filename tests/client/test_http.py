"""The HTTP calls against a real notifier, and against servers that are none."""

from __future__ import annotations

import csv
import io
from collections.abc import Coroutine
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from msgd import errors
from msgd.client import Client
from msgd.client.body import AHEAD_BYTES
from msgd.client.refusals import error_of
from msgd.messages.limits import BODY_BYTES
from tests.client.peers import Blunt
from tests.notifier.world import World, WorldCase, pause, reactor, token
from tests.ports import free_port

KIB = 1024


class ClientCase(WorldCase):
    """A test with clients."""

    def client(self, url: str, token_: Any = "") -> Client:
        client = Client(reactor, url, token_)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    def of(self, world: World, who: str = "") -> Client:
        return self.client(world.url, who or token())

    async def blunt(self, answer: bytes, **how: Any) -> Blunt:
        blunt = Blunt(answer, **how)
        await blunt.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(blunt.close()))
        return blunt

    async def raises(self, kind: type[errors.MsgdError], call: Coroutine[Any, Any, Any]) -> errors.MsgdError:
        """The error that ``call`` raises, of exactly this kind."""
        try:
            result = await call
        except errors.MsgdError as error:
            self.assertIs(type(error), kind, error.message)
            return error
        raise AssertionError(f"no error, but {result!r}")


class JobsTest(ClientCase):
    """Jobs asked for, looked at, and taken home."""

    async def test_submit(self) -> None:
        """A submitted job is found by its id and in the list; its params are those given."""
        world = await self.world()
        client = self.of(world)
        answer = await client.submit("paint", {"colour": "blue", "coats": 2}, delay_s=60, priority="high")
        self.assertEqual((answer["topic"], answer["state"]), (f"job.{answer['id']}", "queued"))
        job = await client.job(answer["id"])
        self.assertEqual((job["params"], job["priority"]), ({"colour": "blue", "coats": 2}, "high"))
        self.assertIsNotNone(job["not_before"])
        other = (await client.submit("paint", {"colour": "red"}))["id"]
        self.assertEqual([one["id"] for one in await client.jobs()], [other, answer["id"]])
        self.assertEqual([one["id"] for one in await client.jobs(limit=1, before=other)], [answer["id"]])
        self.assertEqual(await client.jobs(state="done"), [])

    async def test_key(self) -> None:
        """The same key gives the same job."""
        client = self.of(await self.world())
        first, second = [await client.submit("paint", {"colour": "red"}, key="wall 7") for _ in range(2)]
        self.assertEqual(first["id"], second["id"])

    async def test_cancel(self) -> None:
        """A cancelled job says so."""
        client = self.of(await self.world())
        job = (await client.submit("paint", {"colour": "red"}))["id"]
        self.assertTrue((await client.cancel(job))["cancel_requested"])

    async def test_results(self) -> None:
        """Results come one by one as objects, or as a file byte for byte, line breaks within cells included."""
        world = await self.world()
        client = self.of(world)
        job = await world.job()
        values = [f"coat {number}\nof red" for number in range(700)]
        await world.scribe.record(
            [world.event(f"job.{job}", "result", {"value": value}, run=1, token=1) for value in values]
        )
        self.assertEqual([one["value"] async for one in client.results(job)], values)
        self.assertEqual([one["seq"] async for one in client.results(job)], list(range(1, 701)))
        file = b"".join([piece async for piece in client.export(job, "csv")]).decode()
        self.assertEqual([row["value"] for row in csv.DictReader(io.StringIO(file, newline=""))], values)
        document = b"".join([piece async for piece in client.export(job, "json")])
        self.assertEqual([one["value"] for one in msgspec.json.decode(document)], values)

    async def test_leaving_early(self) -> None:
        """A reader that leaves results in the middle leaves no connection behind, and can go on calling."""
        world = await self.world()
        client = self.of(world)
        job = await world.job()
        large = "x" * 100_000
        await world.scribe.record(
            [world.event(f"job.{job}", "result", {"n": n, "large": large}, run=1, token=1) for n in range(50)]
        )
        results = client.results(job)
        self.assertEqual((await anext(results))["n"], 0)
        await results.aclose()  # type: ignore[attr-defined]  # an async generator
        self.assertEqual((await client.job(job))["id"], job)


class EventsTest(ClientCase):
    """Events published and read."""

    async def test_publish(self) -> None:
        """What is published stands in the topic's history; the same id a second time adds nothing."""
        world = await self.world()
        await world.scribe.listen()
        client = self.of(world)
        for _ in range(2):
            await client.publish("room.a", "said", {"text": "hällo"}, id_="1")
        await client.publish("room.a", "said", None)
        events: list[Any] = []
        cursor = "0"
        while len(events) < 2:
            page = await client.history("room.a", since=cursor, limit=1, wait=5)
            events, cursor = events + page["events"], page["cursor"]
        self.assertEqual([event["data"] for event in events], [{"text": "hällo"}, None])
        self.assertEqual((await client.history("room.a", since=cursor))["events"], [])


class RefusalsTest(ClientCase):
    """Errors are what the server meant."""

    async def test_by_code(self) -> None:
        """Each refusal is raised as the error it has in the server, with its place."""
        world = await self.world()
        ann, job = self.of(world), await world.job()
        unknown = await self.raises(errors.UnknownType, ann.submit("nope", {}))
        self.assertIn("nope", unknown.message)
        wrong = await self.raises(errors.InvalidParams, ann.submit("paint", {"colour": 7}))
        self.assertEqual(wrong.where, "params.colour")
        await self.raises(errors.NotFound, ann.job("none-such"))
        await self.raises(errors.NotFound, ann.job("a/b?c#d"))
        await self.raises(errors.Conflict, ann.retry(job))
        await self.raises(errors.InvalidTopic, ann.publish("a b", "said"))
        await self.raises(errors.InvalidCursor, ann.history("room.a", since="rubbish"))
        await self.raises(errors.TooLarge, ann.publish("room.a", "said", "x" * (BODY_BYTES + 1)))
        await self.raises(errors.InvalidInput, ann.jobs(state="asleep"))
        bob = self.of(world, token("bob", "subscribe:room.*") + "\n")  # as it stands in a file
        await self.raises(errors.Forbidden, bob.submit("paint", {"colour": "red"}))
        await self.raises(errors.TokenExpired, self.of(world, token(ttl_s=-10)).jobs())
        await self.raises(errors.Unauthenticated, self.client(world.url).jobs())

    async def test_without_a_broker(self) -> None:
        """While the broker is away jobs are taken and events are not, with the time after which to try again."""
        world = await self.world(broker=False)
        client = self.of(world)
        self.assertEqual((await client.submit("paint", {"colour": "red"}))["state"], "queued")
        away = await self.raises(errors.BrokerUnavailable, client.publish("room.a", "said"))
        self.assertGreater(away.retry_after or 0, 0)

    def test_kinds(self) -> None:
        """A code that is not known counts as its status; what is no document too."""
        for status, body, kind in (
            (405, b'{"code":"method-not-allowed","detail":"no"}', errors.InvalidInput),
            (418, b'{"code":"teapot"}', errors.InvalidInput),
            (429, b"", errors.RateLimited),
            (404, b"<h1>Not Found</h1>", errors.NotFound),
            (502, b"\xff\xfe", errors.Unavailable),
            (500, b'{"code":"internal","detail":"it has been logged"}', errors.MsgdError),
            (503, b'{"code":"overloaded","detail":"later"}', errors.Overloaded),
        ):
            error = error_of(status, body, 3.0)
            self.assertIs(type(error), kind, body)
            self.assertTrue(error.message)
            self.assertEqual(error.retry_after, 3.0)

    async def test_token_of_the_moment(self) -> None:
        """What gives tokens is asked at every call."""
        world = await self.world()
        tokens = [token("ann"), token("bob", "subscribe:room.*")]
        client = self.client(world.url, lambda: tokens.pop(0))
        await client.submit("paint", {"colour": "red"})
        await self.raises(errors.Forbidden, client.submit("paint", {"colour": "red"}))
        self.assertEqual(tokens, [])


class StrangersTest(ClientCase):
    """Servers that are not there, or are no msgd."""

    async def test_nobody_there(self) -> None:
        """A port on which nobody listens is named, with the reason."""
        url = f"http://127.0.0.1:{free_port()}"
        error = await self.raises(errors.Unavailable, self.client(url).health())
        self.assertIn(url, error.message)
        self.assertIn("refused", error.message)

    async def test_no_msgd(self) -> None:
        """A web server of somebody else's is told from msgd."""
        page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<p>Hi"
        blunt = await self.blunt(page)
        error = await self.raises(errors.PeerError, self.client(blunt.url).health())
        self.assertIn(blunt.url, error.message)
        blunt = await self.blunt(b"SSH-2.0-OpenSSH_9.2\r\n")
        await self.raises(errors.Unavailable, self.client(blunt.url).health())

    async def test_cut_off(self) -> None:
        """An answer that breaks off is not taken for a whole one."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
        blunt = await self.blunt(head + b'{"id":')
        await self.raises(errors.Unavailable, self.client(blunt.url).job("x"))
        blunt = await self.blunt(head + b'{"n":1}\n')
        results = self.client(blunt.url).results("x")
        self.assertEqual(await anext(results), {"n": 1})
        await self.raises(errors.Unavailable, results.__anext__())  # type: ignore[arg-type]  # any awaitable will do

    async def test_slow_reader(self) -> None:
        """A server is read no further ahead than the limit, whatever it sends."""
        piece = b"x" * (64 * KIB - 1) + b"\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
        blunt = await self.blunt(piece, head=head, times=1000)
        export = self.client(blunt.url).export("x", "csv")
        size = len(await anext(export))
        before = -1
        while blunt.sent > before:  # until it stands still
            before = blunt.sent
            await pause(0.2)
        # What the sockets of both sides hold comes on top: some MiB on loopback.
        self.assertLess(blunt.sent * len(piece), AHEAD_BYTES + 16 * KIB * KIB)
        async for more in export:
            size += len(more)
        self.assertEqual(size, 1000 * len(piece))

    def test_no_address(self) -> None:
        """What is no address of a server is refused before anything is sent."""
        for url in ("127.0.0.1:8080", "ftp://host/", "http://", "http://host:port", "http://[::1", ""):
            self.assertRaises(errors.InvalidInput, Client, reactor, url)
