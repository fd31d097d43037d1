"""Everything at once, on the embedded broker and SQLite: whatever happens, each reader has each event once, in order,
or has been told that it is lost."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from errno import EAGAIN
from functools import partial
from typing import Final

from msgspec import json
from twisted.internet.defer import Deferred, succeed

from msgd.journal.interface import Gap, Retention
from msgd.messages.cursors import FIRST
from msgd.messages.topics import bucket, is_pattern, matches
from msgd.notifier import recent, ring, showing, squads
from msgd.notifier.feed import Feed
from msgd.notifier.items import Item
from msgd.notifier.reader import Reader
from tests.notifier.world import World, WorldCase, pause, reactor

TOPICS: Final = ("room.a", "room.b", "room.c")
INTERESTS: Final = (("room.a",), ("room.b",), ("room.*",), ("room.a", "room.b"), ("room.c", "room.*"))
ALIKE: Final = (("room.a",),) * 6 + (("room.b",),) * 3
STEPS: Final = 60
USUAL: Final[tuple[str, ...]] = ("record",) * 8 + ("again", "connect", "stall", "go on", "go on")
RARE: Final = ("trim", "erase", "epoch", "forge")


class Client:
    """A reader with a socket that is full at times; it keeps its cursor, and what it was shown and told."""

    def __init__(self, feed: Feed, patterns: Sequence[str], chance: random.Random) -> None:
        self.patterns = patterns
        self.cursor = FIRST
        self.seqs: dict[tuple[int, str], list[int]] = {}  # of each life and topic: what it was shown
        self.lost: dict[tuple[int, str], set[int]] = {}  # and what it was told to be lost
        self.life = 0
        self.stalled = False
        self.fd = -1  # nothing goes straight to it
        self._feed = feed
        self._chance = chance
        self._waiting: list[Deferred[None]] = []
        self.reader = Reader(feed, patterns, self, reactor)

    async def connect(self) -> None:
        self.stop()
        self.reader = Reader(self._feed, self.patterns, self, reactor)
        await self.reader.begin(self.cursor)
        self.reader.go()

    def stop(self) -> None:
        self.reader.stop()
        self._waiting = []

    def stall(self, stalled: bool) -> None:
        self.stalled = stalled
        if not stalled:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    # -- as an outlet -------------------------------------------------------------------------------------------------

    def drained(self) -> Deferred[None]:
        if not self.stalled:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda one: self._waiting.remove(one) if one in self._waiting else None)
        self._waiting.append(waiting)
        return waiting

    def show(self, label: str, items: Sequence[Item]) -> int:
        taken = (
            0 if self.stalled else self._chance.choice((len(items), len(items), self._chance.randint(0, len(items))))
        )
        if taken < len(items):
            self.stalled = True
        for item in items[:taken]:
            assert item.event.seq is not None
            self.seqs.setdefault((self.life, item.event.topic), []).append(item.event.seq)
            self.cursor = f"{item.epoch}-{item.pos}"
        return taken

    def straight(self) -> int:
        return self.fd if not self.stalled else -1

    def receive(self, frames: bytes) -> None:
        """What was sent straight: text frames, each shorter than 64 KiB."""
        while frames:
            head, size = (2, frames[1]) if frames[1] < 126 else (4, int.from_bytes(frames[2:4]))
            message = json.decode(frames[head : head + size])
            self.seqs.setdefault((self.life, message["topic"]), []).append(message["seq"])
            self.cursor = message["cursor"]
            frames = frames[head + size :]

    def sent(self, data: bytes, taken: int) -> None:
        self.receive(data)
        self.stalled = True

    def gap(self, label: str, gap: Gap, cursor: str = "") -> None:
        if gap.reason in ("epoch", "rewound"):
            self.life += 1
        elif gap.first is not None:
            self.lost.setdefault((self.life, gap.topic), set()).update(
                range(1 if gap.lost is None else gap.first - gap.lost, gap.first)
            )

    def broke(self, label: str) -> None:
        raise AssertionError(f"the reader of {label} broke")

    def wants(self, topic: str) -> bool:
        return any(matches(one, topic) if is_pattern(one) else one == topic for one in self.patterns)


class EveryoneTest(WorldCase):
    """Scripts drawn by lot; a seed that failed stays in the list."""

    timeout = 180

    async def test_scripts(self) -> None:
        """Messages lost, sent twice, forged, sockets full, connections cut, topics trimmed and erased, new epochs; with
        every second script each reader is served in a turn of its own."""
        self.patch(ring, "RING_EVENTS", 6)
        self.patch(recent, "SEGMENTS_BYTES", 8 * ring.ITEM_BYTES)
        self.patch(showing, "BETWEEN_LOOKS", 1)
        self.steps = USUAL + RARE
        for seed in range(8):
            self.patch(showing, "TURN_S", 0.02 if seed % 2 else -1.0)
            await self.script(seed)

    async def test_squads(self) -> None:
        """Where nothing is deleted, and no head lies, but with readers of the same topics, to whom events go straight,
        and as one; sockets take all of what is sent, a part, or nothing."""
        self.patch(ring, "RING_EVENTS", 6)
        self.patch(recent, "SEGMENTS_BYTES", 8 * ring.ITEM_BYTES)
        self.patch(squads, "SIZE", 2)
        self.steps = USUAL
        for seed in range(8):
            self.patch(showing, "TURN_S", 0.02 if seed % 2 else -1.0)
            await self.script(seed, ALIKE, straight=True)

    def send_straight(
        self, clients: Sequence[Client], chance: random.Random, fds: array[int], data: bytes
    ) -> list[tuple[int, int]]:
        """Stands for the sockets; counts the waves to more than one."""
        self.waves += len(fds) > 1
        rest = []
        for place, fd in enumerate(fds):
            self.assertFalse(clients[fd].stalled, "something waits for the socket")
            taken = chance.choice((len(data), len(data), len(data), len(data) // 2, -EAGAIN))
            if taken == len(data):
                clients[fd].receive(data)
            else:
                rest.append((place, taken))
        return rest

    async def script(
        self, seed: int, interests: Sequence[Sequence[str]] = INTERESTS, *, straight: bool = False
    ) -> None:
        chance = random.Random(seed)
        world = await self.world()
        clients: list[Client] = []
        feed = Feed(
            world.broker, world.journal, reactor, lambda: {client.fd for client in clients if client.stalled} - {-1}
        )
        await feed.start()
        try:
            clients += [Client(feed, patterns, chance) for patterns in interests]
            if straight:
                for fd, client in enumerate(clients):
                    client.fd = fd
                self.patch(squads, "send_each", partial(self.send_straight, clients, chance))
                self.waves = 0
            for client in clients:
                await client.connect()
            for _ in range(STEPS):
                await self.step(world, feed, chance, clients)
            while straight and not self.waves:
                for client in clients:
                    client.stall(False)
                await world.scribe.record([world.event("room.a")])
                await pause(0.001)
            await self.rest(world, feed, clients)
            await self.check(world, clients, f"seed {seed}")
            for client in clients:
                client.stop()
        finally:
            await feed.stop()

    async def step(self, world: World, feed: Feed, chance: random.Random, clients: Sequence[Client]) -> None:
        client = chance.choice(clients)
        match chance.choice(self.steps):
            case "record":
                lost = chance.choice((0.0, 0.0, 0.3, 1.0))
                world.scribe.lose = lambda exchange, key: chance.random() < lost
                await world.scribe.record([world.event(chance.choice(TOPICS)) for _ in range(chance.randint(1, 6))])
                world.scribe.lose = lambda exchange, key: False
            case "again":
                head = await world.journal.head()
                page = await world.journal.read(["#"], after=max(0, head.pos - chance.randint(1, 9)), limit=20)
                if page.events and page.upto == head.pos:
                    await world.scribe.tell(head.epoch, page.events)
            case "connect":
                await client.connect()
            case "stall":
                client.stalled = True
            case "go on":
                client.stall(False)
            case "trim":
                await world.journal.trim([Retention(chance.choice(TOPICS), keep=chance.randint(0, 4))])
            case "erase":
                topic = chance.choice(TOPICS)
                await world.journal.erase(topic)
                feed.erased(topic)
            case "forge":
                head = await world.journal.head()
                first = head.pos + chance.randint(-3, 4)
                last = first + chance.choice((-1, 0, 1, 2, 1 << 50))
                counts = {bucket(chance.choice(TOPICS)): chance.randint(0, 3), 255: chance.choice((0, 3, 1 << 51))}
                await world.scribe.head(chance.choice((head.epoch, head.epoch, "other")), first, last, counts)
            case "epoch" if chance.random() < 0.3:
                await world.journal.renew_epoch()
                await world.scribe.idle()
        if chance.random() < 0.7:
            await pause(0)

    async def rest(self, world: World, feed: Feed, clients: Sequence[Client]) -> None:
        """Until nothing more can happen: one last event of each topic, and everybody has it."""
        last = await world.scribe.record([world.event(topic) for topic in TOPICS])
        self.last = {one.event.topic: one.seq for one in last}
        for client in clients:
            for topic in filter(client.wants, TOPICS):
                while self.last[topic] not in client.seqs.get((client.life, topic), []):
                    client.stall(False)
                    await pause(0.001)

    async def check(self, world: World, clients: Sequence[Client], why: str) -> None:
        """In each life: in order, none twice, and what is not there was told to be lost."""
        for client in clients:
            for (life, topic), seqs in client.seqs.items():
                self.assertEqual(seqs, sorted(set(seqs)), f"{why}: {client.patterns} {topic}")
                if life == client.life:
                    told = client.lost.get((life, topic), set())
                    page = await world.journal.read([topic], after=0, limit=1000)
                    kept = {one.seq for one in page.events}
                    self.assertLessEqual(kept, set(seqs), f"{why}: {client.patterns} {topic}")
                    # From the first that it was shown in this life on.
                    missing = set(range(seqs[0], self.last[topic] + 1)) - set(seqs) - told
                    self.assertEqual(missing, set(), f"{why}: {client.patterns} {topic}")
