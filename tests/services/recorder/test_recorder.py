"""The recorder from the queues to the notifiers, on both brokers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker
from msgd.broker.topology import DEAD_QUEUE, JOB_EVENTS_QUEUE, TALK_QUEUE
from msgd.errors import DatabaseUnavailable
from msgd.journal.sql import SQLJournal
from msgd.messages.limits import BODY_BYTES
from msgd.messages.topics import bucket
from tests.services.recorder.world import World, event

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected

QUEUES = (JOB_EVENTS_QUEUE, TALK_QUEUE)


class Failing(SQLJournal):
    """A journal whose appends fail as often as told: before they begin, or after they were committed."""

    before = 0
    after = 0

    async def append(self, *positional: Any, **named: Any) -> Any:
        if named.get("within") is not None and positional[1]:
            if self.before:
                self.before -= 1
                raise DatabaseUnavailable("the server went away")
            if self.after:
                self.after -= 1
                await super().append(*positional, **named)
                raise DatabaseUnavailable("the connection was lost during the commit")
        return await super().append(*positional, **named)


class RecorderCases(_TestCase):
    """The suite; a subclass chooses broker and database."""

    def make_broker(self) -> Broker:
        raise NotImplementedError

    def database_url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'test.sqlite3'}"

    async def world(self) -> World:
        made = World(self, self.database_url(), self.make_broker)
        await made.start()
        return made

    # -- the way of an event ------------------------------------------------------------------------------------------

    async def test_events_are_stored_then_pushed(self) -> None:
        """What is published is journaled in order, pushed by buckets with a head that counts, and acknowledged."""
        world = await self.world()
        given = [event(f"room.{number % 3}", str(number)) for number in range(30)]
        await world.publish(*given)
        recorder = await world.begin()
        await world.listener.until_pos(30)
        self.assertEqual([one.event for one in await world.history()], given)
        pushed = sorted(world.listener.events, key=lambda one: one.pos or 0)
        self.assertEqual(
            [(one.topic, one.id, one.seq) for one in pushed], [(e.topic, e.id, n // 3 + 1) for n, e in enumerate(given)]
        )
        counted: dict[int, int] = {}
        for head in world.listener.heads:
            for number, count in head.counts.items():
                counted[number] = counted.get(number, 0) + count
        self.assertEqual(counted, {bucket(f"room.{number}"): 10 for number in range(3)})
        await recorder.stop()
        self.assertTrue(await world.depths_are_zero(*QUEUES))
        self.assertEqual((await world.journal.head()).live_pos, 30)

    async def test_order_of_a_topic(self) -> None:
        """However batches fall, a topic's events keep the order of their publishing, over both queues."""
        world = await self.world()
        await world.begin()
        names = ["job.a", "job.b", "room.a"]
        confirms = [world.publish(*(event(name, str(number)) for name in names)) for number in range(700)]
        for confirm in confirms:
            await confirm
        await world.listener.until_pos(2100)
        found = await world.ids()
        for name in names:
            self.assertEqual([id_ for topic, id_ in found if topic == name], [str(number) for number in range(700)])
        positions = [one.pos for one in world.listener.events]
        self.assertEqual(sorted(positions), list(range(1, 2101)))

    async def test_heads_join(self) -> None:
        """Each head begins where the last one ended, so that a lost one is noticed."""
        world = await self.world()
        await world.begin()
        for number in range(20):
            await world.publish(event("room.a", str(number)))
        await world.listener.until_pos(20)
        heads = world.listener.heads
        self.assertEqual([head.first for head in heads[1:]], [head.last + 1 for head in heads[:-1]])

    async def test_known(self) -> None:
        """An event that comes twice is stored and pushed once."""
        world = await self.world()
        await world.begin()
        for _ in range(3):
            await world.publish(event("room.a", "same"), event("job.x", "same"))
        await world.publish(event("room.a", "last"), event("job.x", "last"))
        await world.listener.until_pos(4)
        self.assertEqual(sorted(await world.ids()), [(t, i) for t in ("job.x", "room.a") for i in ("last", "same")])
        self.assertEqual(len(world.listener.events), 4)

    async def test_transient(self) -> None:
        """Typing, presence and progress are pushed without a number, and not journaled."""
        world = await self.world()
        recorder = await world.begin()
        await world.publish(event("room.a", "t", type="typing"), event("room.a", "1"))
        await world.listener.until(lambda: len(world.listener.events) == 2)
        typing = next(one for one in world.listener.events if one.type == "typing")
        self.assertEqual((typing.seq, typing.pos, typing.topic), (None, None, "room.a"))
        self.assertEqual(await world.ids(), [("room.a", "1")])
        await recorder.stop()
        self.assertTrue(await world.depths_are_zero(*QUEUES))

    async def test_bad_events_die_alone(self) -> None:
        """What is no event becomes a dead letter with its reason; its neighbours are stored."""
        world = await self.world()
        await world.publish(event("room.a", "before"))
        for fields, topic in (
            ({"body": b"{", "type": "said", "message_id": "1"}, "room.a"),
            ({"body": b"1", "message_id": "2"}, "room.a"),
            ({"body": b"1", "type": "said", "message_id": "3"}, "room..a"),
            ({"body": b'"' + b"x" * BODY_BYTES + b'"', "type": "said", "message_id": "4"}, "room.a"),
            ({"body": b"1", "type": "said", "message_id": "5", "timestamp": 1 << 62}, "room.a"),
        ):
            await world.publish_message(topic, **fields)
        await world.publish(event("room.a", "after"))
        recorder = await world.begin()
        await world.listener.until_pos(2)
        self.assertEqual(await world.ids(), [("room.a", "before"), ("room.a", "after")])
        await recorder.stop()
        await (await world.begin("two")).stop()  # buries what is left
        letters = {letter.message.message_id: letter for letter in await world.jobs.dead_letters()}
        self.assertEqual(sorted(letters), ["1", "2", "3", "4", "5"])
        reasons = {id_: letter.reason.partition(" ")[0].rstrip(":") for id_, letter in letters.items()}
        self.assertEqual(
            reasons, {"1": "not-json", "2": "invalid", "3": "invalid-topic", "4": "too-large", "5": "invalid"}
        )
        self.assertEqual({letter.queue for letter in letters.values()}, {TALK_QUEUE})
        self.assertTrue(await world.depths_are_zero(*QUEUES, DEAD_QUEUE))


class EmbeddedTests(RecorderCases, TestCase):
    def make_broker(self) -> Broker:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "broker.sqlite3"
        return EmbeddedBroker(self.path, reactor=reactor)
