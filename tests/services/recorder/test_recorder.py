"""The recorder from the queues to the notifiers, on both brokers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, FirstError
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.broker.amqp import AmqpBroker
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker
from msgd.broker.topology import DEAD_QUEUE, EVENTS, JOB_EVENTS_QUEUE, JOBS, TALK_QUEUE
from msgd.clock import sleep
from msgd.errors import DatabaseUnavailable, NotFound
from msgd.jobs.interface import State, Submission
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.journal.interface import Retention
from msgd.journal.sql import SQLJournal
from msgd.messages.batches import pack
from msgd.messages.envelope import Message
from msgd.messages.limits import BODY_BYTES
from msgd.messages.topics import bucket
from msgd.services.recorder.mark import Mark
from msgd.services.recorder.recording import IDLE_S
from msgd.services.recorder.rounds import Rounds
from tests.servers import postgres, rabbitmq
from tests.services.recorder.world import World, clock, event, now_ms

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
        while len(found := await world.jobs.dead_letters()) < 5:
            await sleep(clock, 0.01)
        await recorder.stop()
        letters = {letter.message.message_id: letter for letter in found}
        self.assertEqual(sorted(letters), ["1", "2", "3", "4", "5"])
        reasons = {id_: letter.reason.partition(" ")[0].rstrip(":") for id_, letter in letters.items()}
        self.assertEqual(
            reasons, {"1": "not-json", "2": "invalid", "3": "invalid-topic", "4": "too-large", "5": "invalid"}
        )
        self.assertEqual({letter.queue for letter in letters.values()}, {TALK_QUEUE})
        self.assertTrue(await world.depths_are_zero(*QUEUES, DEAD_QUEUE))

    async def test_batches(self) -> None:
        """Events that came in one message are numbered and pushed in their order, one that is known is dropped, and one
        that the journal refuses becomes a dead letter by itself; the message is acknowledged."""
        world = await self.world()
        told = [event("job.j", str(number), token=1, data=b'{"at": %d }' % number) for number in range(4)]
        told[2] = event("job.j", "2", token=1, type="a\0b")
        await world.publish(told[1])
        for message in pack(told):
            await world.broker.publish(EVENTS, "job.j", message)
        await world.publish(event("job.j", "last", token=1))
        recorder = await world.begin()
        await world.listener.until_pos(4)
        found = await world.history()
        self.assertEqual([(one.event.id, one.seq) for one in found], [("1", 1), ("0", 2), ("3", 3), ("last", 4)])
        self.assertEqual([one.event.data for one in found[:3]], [told[1].data, told[0].data, told[3].data])
        while not (letters := await world.jobs.dead_letters()):
            await sleep(clock, 0.01)
        await recorder.stop()
        [letter] = letters
        self.assertEqual((letter.message.message_id, letter.message.type, letter.key), ("2", "a\0b", "job.j"))
        self.assertEqual(letter.queue, JOB_EVENTS_QUEUE)
        self.assertTrue(await world.depths_are_zero(*QUEUES, DEAD_QUEUE))

    async def test_replies(self) -> None:
        """Who submitted a job with reply_to gets its events there, numbered, in order, with the correlation id."""
        world = await self.world()
        caller = await world.caller()
        submission = Submission(type="t", params=b"{}", reply_to=caller.reply_to, correlation_id="call 7")
        job = (await world.jobs.submit(submission)).job
        await world.begin()
        given = [event(f"job.{job.id}", str(number), run=1, token=0) for number in range(5)]
        await world.publish(*given, event("job.other", "x", run=1))
        messages = await caller.answers(5)
        self.assertEqual([message.headers["msgd-seq"] for message in messages], [1, 2, 3, 4, 5])
        self.assertEqual([message.message_id for message in messages], [one.id for one in given])
        self.assertEqual({message.correlation_id for message in messages}, {"call 7"})
        epoch = (await world.journal.head()).epoch
        self.assertTrue(all(str(message.headers["msgd-cursor"]).startswith(epoch) for message in messages))

    async def test_impossible_reply_to(self) -> None:
        """A reply that no broker can take is left; the event is stored, and the recorder goes on."""
        world = await self.world()
        job = (await world.jobs.submit(Submission(type="t", params=b"{}", reply_to="x" * 300))).job
        await world.begin()
        await world.publish(event(f"job.{job.id}", "1", run=1), event("room.a", "2"))
        await world.listener.until_pos(2)

    async def test_end_of_a_job(self) -> None:
        """The event of an end, out of the outbox, is stored; its row goes, and the job shows as ended only then."""
        world = await self.world()
        job = (await world.jobs.submit(Submission(type="t", params=b"{}"))).job
        await world.jobs.cancel(job.id)
        self.assertFalse((await world.jobs.get(job.id)).recorded)
        outbox = SqlOutbox(world.database, clock=clock)
        publisher = Publisher(outbox, world.broker, clock=clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(publisher.stop()))
        await world.begin()
        await publisher.start()
        await world.listener.until_pos(1)
        self.assertTrue((await world.jobs.get(job.id)).recorded)
        self.assertEqual([one.type for one in world.listener.events], ["cancelled"])

    # -- trouble ------------------------------------------------------------------------------------------------------

    async def test_database_fails_before_the_commit(self) -> None:
        """A batch that could not be stored is stored later, in its order, once, and nothing overtakes it."""
        await self.survive_append(before=3)

    async def test_database_fails_after_the_commit(self) -> None:
        """A commit whose answer was lost: nothing is stored twice, and all of it is pushed."""
        await self.survive_append(after=2)

    async def survive_append(self, **failures: int) -> None:
        world = await self.world()
        journal = Failing(world.database, now_ms=now_ms)
        vars(journal).update(failures)
        given = [event(name, str(number)) for number in range(50) for name in ("job.a", "room.a")]
        first = world.publish(*given[:40])
        await world.begin(journal=journal)
        await first
        await world.publish(*given[40:])
        await world.listener.until_pos(100)
        for name in ("job.a", "room.a"):
            ids = [id_ for topic, id_ in await world.ids() if topic == name]
            self.assertEqual(ids, [str(number) for number in range(50)])
        self.assertEqual({one.pos for one in world.listener.events}, set(range(1, 101)))
        self.assertEqual((journal.before, journal.after), (0, 0))

    async def test_takeover_publishes_what_was_stored_only(self) -> None:
        """A recorder that died between its commit and its publishing: the next one publishes, from live_pos on."""
        world = await self.world()
        dead = await world.journal.acquire("dead", ttl_ms=0)
        assert dead is not None
        await world.journal.append(dead, [event("room.a", str(number)) for number in range(700)])
        await world.journal.lived(dead, 50)
        await world.begin()
        await world.listener.until_pos(700)
        self.assertEqual([one.pos for one in world.listener.events], list(range(51, 701)))
        self.assertEqual(world.listener.heads[0].first, 51)

    async def test_takeover_answers_callers(self) -> None:
        """Events that a dead recorder stored and did not publish reach the RPC caller too."""
        world = await self.world()
        caller = await world.caller()
        job = (await world.jobs.submit(Submission(type="t", params=b"{}", reply_to=caller.reply_to))).job
        dead = await world.journal.acquire("dead", ttl_ms=0)
        assert dead is not None
        await world.journal.append(dead, [event(f"job.{job.id}", "1", run=1)])
        await world.begin()
        await world.publish(event(f"job.{job.id}", "2", run=1))
        self.assertEqual([message.message_id for message in await caller.answers(2)], ["1", "2"])

    async def test_standby(self) -> None:
        """Of several recorders one serves; when it stops, another goes on where it was."""
        world = await self.world()
        one = await world.begin("one")
        await world.publish(event("room.a", "1"))
        await world.listener.until_pos(1)
        two = await world.begin("two")
        others = [world.publish(event("room.a", str(number))) for number in range(2, 400)]
        await one.stop()
        self.assertFalse(one.figures.serving)
        for other in others:
            await other
        await world.listener.until_pos(399)
        self.assertEqual(two.figures.takeovers, 1)
        self.assertEqual([id_ for _, id_ in await world.ids()], [str(number) for number in range(1, 400)])

    async def test_stolen_lease(self) -> None:
        """A recorder whose lease another one has taken stores nothing more, gives back what it has, and waits."""
        world = await self.world()
        recorder = await world.begin()
        await world.publish(event("room.a", "1"))
        await world.listener.until_pos(1)
        thief = SQLJournal(world.database, now_ms=lambda: now_ms() + 3_600_000)
        lease = await thief.acquire("thief", ttl_ms=1)
        assert lease is not None
        await world.publish(event("room.a", "2"))
        while recorder.figures.serving:
            await sleep(clock, 0.01)
        self.assertEqual(await world.ids(), [("room.a", "1")])
        await thief.release(lease)
        await world.listener.until_pos(2)
        self.assertEqual(recorder.figures.takeovers, 2)
        self.assertEqual(await world.ids(), [("room.a", "1"), ("room.a", "2")])

    async def test_stop_in_the_midst(self) -> None:
        """Stopped and started again at any moment, over and over: nothing is lost, doubled or reordered."""
        world = await self.world()
        count = 0
        for turn in range(8):
            recorder = await world.begin(f"turn-{turn}")
            published = world.publish(*(event("room.a", str(count + number)) for number in range(100)))
            count += 100
            if turn % 2:
                await published
            await recorder.stop()
            await recorder.stop()
            await published
        await world.begin("last")
        await world.listener.until_pos(count)
        self.assertEqual([id_ for _, id_ in await world.ids()], [str(number) for number in range(count)])

    async def test_never_started(self) -> None:
        """Stopping what was never started is harmless."""
        world = await self.world()
        await world.recorder().stop()

    async def test_idle_head(self) -> None:
        """An idle recorder says every two seconds how far it is, and tells the journal."""
        world = await self.world()
        hand = Clock()
        recorder = await world.begin(clock=hand)
        await world.publish(event("room.a", "1"))
        await world.listener.until_pos(1)
        world.listener.heard.clear()
        assert recorder._recording is not None
        bell = recorder._recording._bell
        # Time passes while it waits, and not while it is at something: its lease would be over meanwhile.
        while not any(getattr(call.func, "__self__", None) is bell for call in hand.getDelayedCalls()):
            await sleep(clock, 0)
        hand.advance(IDLE_S)
        await world.listener.until(lambda: bool(world.listener.heads))
        last = world.listener.heads[-1]
        self.assertEqual((last.first, last.last, last.counts), (2, 1, {}))

    # -- what else a recorder does ------------------------------------------------------------------------------------

    async def test_emptied_broker(self) -> None:
        """Where the mark is missing all jobs are posted again, then it is set; where it stands nothing is done."""
        world = await self.world()
        job = (await world.jobs.submit(Submission(type="t", params=b"{}"))).job
        outbox = SqlOutbox(world.database, clock=clock)
        rows = await outbox.take(lease_ms=1000, limit=10)
        await outbox.published(rows, again_ms=0)  # to a broker that lost it
        self.assertEqual(await outbox.pending(), 0)
        mark = Mark(world.broker, world.jobs, world.journal, clock)
        self.assertFalse(await mark.check())
        (row,) = await outbox.take(lease_ms=1000, limit=10)
        self.assertEqual((row.job, row.key), (job.id, "t"))
        self.assertTrue(await mark.check())
        await world.journal.renew_epoch()
        self.assertFalse(await mark.check())

    async def test_job_of_unknown_type(self) -> None:
        """A foreign client's job that no queue takes becomes a failed job, by way of the dead letters."""
        world = await self.world()
        await world.begin()
        await world.broker.publish(JOBS, "nobody", Message(body=b"{}", message_id="lost"))
        while True:
            try:
                job = await world.jobs.get("lost")
                break
            except NotFound:
                await sleep(clock, 0.01)
        assert job.error is not None
        self.assertEqual((job.state, job.error.code), (State.FAILED, "unknown-type"))

    async def test_purge(self) -> None:
        """Jobs go as long after their end as their events would, and their topics with them."""
        world = await self.world()
        await world.begin()
        job = (await world.jobs.submit(Submission(type="t", params=b"{}"))).job
        await world.publish(event(f"job.{job.id}", "1", run=1))
        await world.jobs.cancel(job.id)
        await world.publish(event(f"job.{job.id}", "2", run=1, type="cancelled"))
        await world.listener.until_pos(2)
        rules = [Retention("room.*", max_age_ms=1), Retention("job.#", max_age_ms=3_600_000)]
        hand = Clock()
        hand.advance(clock.seconds())
        rounds = Rounds(world.journal, world.jobs, hand, rules)
        self.assertEqual(await rounds.purge(), 0)
        hand.advance(3601)
        self.assertEqual(await rounds.purge(), 1)
        self.assertEqual(await world.ids(), [])
        with self.assertRaises(NotFound):
            await world.jobs.get(job.id)

    async def test_rounds_trim(self) -> None:
        """A recorder trims by its rules, however much there is."""
        world = await self.world()
        lease = await world.journal.acquire("filler", ttl_ms=0)
        assert lease is not None
        await world.journal.append(lease, [event("room.a", str(number)) for number in range(2500)])
        rounds = Rounds(world.journal, world.jobs, clock, [Retention("#", keep=10)])
        self.assertEqual(await rounds.trim(), 2490)
        self.assertEqual(len(await world.ids()), 10)


class EmbeddedTests(RecorderCases, TestCase):
    def make_broker(self) -> Broker:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "broker.sqlite3"
        return EmbeddedBroker(self.path, reactor=reactor)


class RabbitTests(RecorderCases, TestCase):
    """On RabbitMQ and PostgreSQL."""

    def setUp(self) -> None:
        self.vhost = rabbitmq.fresh_vhost(self)

    def make_broker(self) -> Broker:
        return AmqpBroker(reactor, [rabbitmq.node().url(self.vhost)], name="tests", jitter=lambda: 0.0)

    def database_url(self) -> str:
        return postgres.fresh_database(self)

    async def test_cut_connections(self) -> None:
        """Connections cut again and again under load: every event is stored once, in order, and all is pushed."""
        world = await self.world()
        await world.begin()
        sent = []
        for number in range(600):
            sent.append(event("job.a" if number % 2 else "room.a", str(number)))
            while True:
                try:
                    await world.publish(sent[-1])
                    break
                except FirstError:  # the connection was lost before the confirm: again, under the same id
                    await world.broker.ready()
            if number % 150 == 75:
                await deferToThread(rabbitmq.node().cut_connections, self.vhost)
        await world.listener.until_pos(600)
        for name in ("job.a", "room.a"):
            ids = [id_ for topic, id_ in await world.ids() if topic == name]
            self.assertEqual(ids, [one.id for one in sent if one.topic == name])
