"""WebSockets that say too much, or too fast: they wait, and others do not."""

from __future__ import annotations

from msgd.config.settings import Limits
from msgd.config.settings import Notifier as Settings
from msgd.notifier.limits import BUFFER_BYTES
from tests.notifier.test_websocket import SocketCase
from tests.notifier.world import pause, token
from tests.stories.hostile import frame


class FloodTest(SocketCase):
    """Floods of all kinds."""

    async def test_floods_of_operations(self) -> None:
        """A client that asks without reading the answers is not read any more."""
        world = await self.world(limits=Limits(operations=0))
        client = await self.client(world)
        await client.next("welcome")
        client.protocol.transport.pauseProducing()
        (connection,) = world.doors()
        while "full" not in connection._held:
            for _ in range(50):  # a little more than what is taken in one turn
                client.say("ping", ref="x" * 200)
            await pause(0)
            self.assertLess(connection._waiting, 2 * BUFFER_BYTES)
        client.protocol.transport.resumeProducing()
        self.assertEqual((await client.answer("ping"))["op"], "ok")

    async def test_floods_of_pings(self) -> None:
        """The same holds for pings; and each that is read is answered with its own payload."""
        world = await self.world()
        client = await self.client(world)
        await client.next("welcome")
        pongs: list[bytes] = []
        client.protocol.onPong = pongs.append
        client.protocol.transport.pauseProducing()
        (connection,) = world.doors()
        sent = 0
        while "full" not in connection._held:
            for _ in range(50):  # a little more than what is taken in one turn
                client.protocol.sendPing(b"%0125d" % sent)
                sent += 1
            await pause(0)
            self.assertLess(connection._waiting, 2 * BUFFER_BYTES)
        client.protocol.transport.resumeProducing()
        self.assertEqual((await client.answer("ping"))["op"], "ok")
        self.assertEqual(pongs, [b"%0125d" % number for number in range(sent)])

    async def test_nonsense_counts(self) -> None:
        """What cannot be understood counts like an operation: beyond the rate it is refused as such."""
        world = await self.world(limits=Limits(operations=1))
        world.stop_time()
        client = await self.client(world)
        await client.next("welcome")
        codes = []
        for payload in (b"{nope", b'{"op":"fly"}') * 6:
            client.raw(payload)
            codes.append((await client.next("error"))["code"])
            if codes[-1] == "rate-limited":
                break
        self.assertEqual(codes, ["not-json", "invalid"] * 5 + ["rate-limited"])

    async def test_too_fast_is_not_heard(self) -> None:
        """Who was told to come again later is not heard before, so that refusing costs nothing either."""
        world = await self.world(limits=Limits(operations=5))
        client = await self.client(world)
        await client.next("welcome")
        (connection,) = world.doors()
        for number in range(200):
            client.say("ping", ref=number)
        while "pace" not in connection._held:
            await pause(0.01)
        answered = len(client.messages)
        self.assertLess(answered, 60)
        # Of those that wait some are answered, the others refused: all of them, in their order.
        self.assertEqual((await client.next(lambda message: message.get("ref") == 55))["ref"], 55)
        refs = [message["ref"] for message in client.messages if message["op"] in ("ok", "error")]
        self.assertEqual(refs, list(range(len(refs))))
        client.protocol.dropConnection(abort=True)
        await client.ended

    async def test_strangers_count_by_address(self) -> None:
        """Before ``hello`` messages are counted by address."""
        world = await self.world(Settings(trusted_proxies=("127.0.0.0/8",)), limits=Limits(operations=1))
        world.stop_time()
        headers = {"X-Forwarded-For": "1.2.3.4"}
        first, second = [await self.client(world, who=None, headers=headers) for _ in range(2)]
        for client, count in ((first, 5), (second, 5)):
            for _ in range(count):
                self.assertEqual((await client.answer("ping"))["op"], "ok")
        self.assertEqual((await second.answer("ping"))["code"], "rate-limited")
        other = await self.client(world, who=None, headers={"X-Forwarded-For": "1.2.3.5"})
        self.assertEqual((await other.answer("ping"))["op"], "ok")

    async def test_every_question_is_answered(self) -> None:
        """Subscriptions that are ended before they began are answered too: each operation once."""
        world = await self.world(limits=Limits(operations=0))
        client = await self.client(world)
        await client.next("welcome")
        asked = 0
        for _ in range(20):
            for op in ("subscribe", "unsubscribe", "subscribe", "presence", "unsubscribe", "unsubscribe"):
                client.say(op, topic="room.a", ref=asked)
                asked += 1
        await client.answer("ping")
        answers = [message["ref"] for message in client.messages if message.get("ref") is not None][:-1]
        while len(answers) < asked:
            answers.append((await client.next(lambda message: message.get("ref") is not None))["ref"])
        self.assertEqual(sorted(answers), list(range(asked)))

    async def test_in_turns(self) -> None:
        """Thousands of messages that came at once are taken a few at a time; others are heard between."""
        world = await self.world(limits=Limits(operations=0))
        flooding, other = await self.client(world), await self.client(world, who=token("ben"))
        await flooding.next("welcome")
        await other.next("welcome")
        connection = next(door for door in world.doors() if door.principal.sub == "ann")
        heard: list[bytes] = []
        session = connection._session

        def received(payload: bytes) -> None:
            heard.append(payload)
            type(session).received(session, payload)

        session.received = received
        connection.dataReceived(frame(b'{"op":"ping"}') * 2000)
        self.assertLess(len(heard), 100)
        other.say("ping", ref="other")
        await other.next("ok")
        self.assertLess(len(heard), 2000)
        for _ in range(2000):
            await flooding.next("ok")

    async def test_gone_in_its_turn(self) -> None:
        """A connection that ends while messages of it wait leaves nothing behind."""
        world = await self.world(limits=Limits(operations=0))
        client = await self.client(world)
        await client.next("welcome")
        (connection,) = world.doors()
        connection.dataReceived(frame(b'{"op":"ping"}') * 2000)
        connection.dropConnection(abort=True)
        await client.ended
        self.assertEqual(world.doors(), [])
