"""Whichever door a reader comes by, and however often it comes anew: each kept event once, in order, or a gap."""

from __future__ import annotations

from random import Random
from typing import Any

from msgd.messages.cursors import parse_cursor
from tests.notifier.eventsource import listen
from tests.notifier.socket import Client
from tests.notifier.world import World, WorldCase, token

PATTERN = "room.*"
PATH = f"/api/events?topics={PATTERN}"


class Reading:
    """What one reader has been told, over all its connections."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cursor = "0"
        self.seqs: dict[str, list[int]] = {}
        self.lost: dict[str, set[int]] = {}

    async def connect(self) -> None:
        """Go on from the cursor."""
        raise NotImplementedError

    async def look(self) -> None:
        """Returns when more has come."""
        raise NotImplementedError

    def leave(self) -> None:
        """Go away without a word."""

    def take(self, message: dict[str, Any]) -> None:
        """An event or a gap."""
        topic = message["topic"]
        seqs = self.seqs.setdefault(topic, [])
        if message["op"] == "event":
            seqs.append(message["seq"])
            self.cursor = message["cursor"]
        elif message["op"] == "gap":
            first = message["first"] or 10_000
            self.lost.setdefault(topic, set()).update(range(seqs[-1] + 1 if seqs else 1, first))

    async def come_to(self, pos: int) -> None:
        """Returns when all that is kept up to there has been told."""
        while (place := parse_cursor(self.cursor)) is None or place.pos < pos:
            await self.look()


class BySocket(Reading):
    async def connect(self) -> None:
        self.client = await Client().connect(self.world, who=token())
        self.client.say("subscribe", topic=PATTERN, since=self.cursor)

    async def look(self) -> None:
        self.take(await self.client.next(lambda message: message["op"] in ("event", "gap")))

    def leave(self) -> None:
        self.client.protocol.transport.abortConnection()


class ByStream(Reading):
    async def connect(self) -> None:
        self.source = await listen(self.world.port, PATH, headers={"Last-Event-ID": self.cursor})
        self.taken = 0

    async def look(self) -> None:
        if self.taken == len(self.source.heard):
            await self.source.more()
        for type_, message, place in self.source.heard[self.taken :]:
            self.take(message)
            # What the client would send as Last-Event-ID is the cursor that the messages speak of.
            assert type_ != "message" or place == message["cursor"]
            self.cursor = place
        self.taken = len(self.source.heard)

    def leave(self) -> None:
        self.source.close()


class ByPoll(Reading):
    async def connect(self) -> None:
        """Each look is a connection."""

    async def look(self) -> None:
        _, page, _ = await self.world.call("GET", f"{PATH}&since={self.cursor}&wait=5&limit=3")
        for gap in page.get("gaps", ()):
            self.take({"op": "gap", **gap})
        for event in page["events"]:
            self.take({"op": "event", **event})
        self.cursor = page["cursor"]


class AnyDoorTest(WorldCase):
    timeout = 180

    async def test_once_in_order_or_a_gap(self) -> None:
        """Live messages are lost, topics erased, clients come and go at random: for every reader the events of a topic
        count up, and what is missing was told to be lost."""
        random = Random(20261122)
        world = await self.world()
        readers: list[Reading] = [kind(world) for kind in (BySocket, BySocket, ByStream, ByStream, ByPoll)]
        kept: dict[str, int] = {}
        for _ in range(15):
            for reader in readers:
                await reader.connect()
            world.scribe.lose = lambda exchange, key: random.random() < 0.3
            for _ in range(random.randrange(1, 6)):
                events = [
                    world.event(random.choice(("room.a", "room.b", "app.c"))) for _ in range(random.randrange(1, 8))
                ]
                for recorded in await world.scribe.record(events):
                    assert recorded.seq is not None
                    kept[recorded.event.topic] = recorded.seq
                if random.random() < 0.15:
                    await world.call("DELETE", "/api/topics/room.b")
            world.scribe.lose = lambda exchange, key: False
            # The last word is an event that all can see, so that each can tell when it has been told all.
            (last,) = await world.scribe.record([world.event("room.a")])
            kept["room.a"] = last.seq or 0
            for reader in readers:
                if random.random() < 0.6:
                    await reader.come_to(last.pos)
            for reader in readers:
                reader.leave()
        for reader in readers:
            await reader.connect()
            await reader.come_to(last.pos)
            reader.leave()
            for topic in ("room.a", "room.b"):
                seqs, lost = reader.seqs.get(topic, []), reader.lost.get(topic, set())
                self.assertEqual(seqs, sorted(set(seqs)), (reader, topic))
                self.assertEqual({*range(1, (seqs or [0])[-1] + 1)} - {*seqs} - lost, set(), (reader, topic))
            self.assertEqual(reader.seqs["room.a"], list(range(1, kept["room.a"] + 1)), reader)
