"""Line, rings and subscription together: whatever is lost, late, doubled or slow, every kept event once, in order."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import Head, LiveBatch, LiveEvent
from msgd.messages.topics import bucket
from msgd.notifier import recent, ring
from msgd.notifier.items import Item
from msgd.notifier.limits import HELD_EVENTS, JOIN_EVENTS
from msgd.notifier.line import Ask, Fill, Line, Release, Renewed
from msgd.notifier.recent import Recent
from msgd.notifier.subscription import Phase, Subscription

TOPICS = ("room.a", "room.b", "room.c")  # of three buckets


class Placed(Struct, frozen=True):
    """An event as a reader is shown it."""

    topic: str
    pos: int


def live(topic: str, pos: int) -> LiveEvent:
    """Its seq is its pos: they rise together."""
    return LiveEvent(topic, pos, pos, str(pos), "said", "", 0, Raw(b"null"))


def item(one: Placed) -> Item:
    return Item("e", live(one.topic, one.pos))


class Room:
    """A model of everything around the line and the readers: the journal is a list, the broker a bag of messages that
    come in order, or not at all."""

    def __init__(self) -> None:
        self.journal: list[Placed] = []
        self.queue: list[LiveBatch | Head] = []
        self.bound: set[int] = set()
        self.line = Line()
        self.line.begin("e", 0)
        self.readers: list[Reader] = []
        self.filling = False
        self.asked: tuple[set[str], int, int] | None = None  # a page on its way: topics, after, up to
        self.recent = Recent(self.line)
        self.gone: dict[str, int] = {}  # the events of a topic up to here have been deleted

    @property
    def pos(self) -> int:
        return len(self.journal)

    def kept(self, topics: set[str], after: int, upto: int) -> list[Placed]:
        """What the journal holds."""
        return [
            one for one in self.journal[after:upto] if one.topic in topics and one.pos > self.gone.get(one.topic, 0)
        ]

    def delete(self, topic: str, count: int) -> None:
        """Retention takes the first events of a topic."""
        kept = self.kept({topic}, 0, self.pos)[:count]
        if kept:
            self.gone[topic] = kept[-1].pos

    def erase(self, topic: str) -> None:
        """Somebody deletes all of a topic by way of this process."""
        self.delete(topic, self.pos)
        self.recent.drop(topic)

    def join(self, topic: str, back: int) -> None:
        """A reader comes; it asks the journal first, and so it is known what has gone."""
        reader = Reader(topic, max(0, self.pos - back))
        reader.gone = self.gone.get(topic, 0)
        if reader.gone > reader.since:
            self.recent.gone(topic, reader.gone + 1)
        self.readers.append(reader)

    def leave(self, number: int) -> None:
        """A reader goes; its bucket stays bound for a while."""
        del self.readers[number]

    def unbind(self, topic: str) -> None:
        """A bucket that nobody uses is unbound."""
        if all(one.topic != topic for one in self.readers):
            self.bound.discard(bucket(topic))
            self.line.forget(bucket(topic))

    def record(self, topics: list[str], lost: set[int]) -> None:
        """Store a batch and publish it; of its messages those whose number is in ``lost`` never arrive."""
        first = self.pos + 1
        batch = [Placed(topic, first + number) for number, topic in enumerate(topics)]
        self.journal.extend(batch)
        counts: dict[int, int] = {}
        messages: list[LiveBatch | Head] = []
        for topic in dict.fromkeys(topics):
            number = bucket(topic)
            events = [live(one.topic, one.pos) for one in batch if one.topic == topic]
            counts[number] = len(events)
            if number in self.bound:
                messages.append(LiveBatch("e", events))
        messages.append(Head("e", first, self.pos, counts))
        self.queue.extend(message for number, message in enumerate(messages) if number not in lost)

    def repeat(self, back: int) -> None:
        """A recorder takes over and publishes the last events again, in one batch."""
        first = max(1, self.pos - back + 1)
        batch = self.journal[first - 1 :]
        counts: dict[int, int] = {}
        for one in batch:
            counts[bucket(one.topic)] = counts.get(bucket(one.topic), 0) + 1
        for number in counts:
            if number in self.bound:
                self.queue.append(LiveBatch("e", [live(o.topic, o.pos) for o in batch if bucket(o.topic) == number]))
        if batch:
            self.queue.append(Head("e", first, self.pos, counts))

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.queue))):
            message = self.queue.pop(0)
            if isinstance(message, LiveBatch):
                self.line.heard(message)
            else:
                self.take(self.line.head(message))

    def take(self, step: object) -> None:
        if isinstance(step, Release):
            self.release(step)
        elif isinstance(step, Fill):
            self.filling = True
        elif isinstance(step, Ask):
            self.take(self.line.stands("e", self.pos, self.line.mark))
        elif isinstance(step, Renewed):
            self.renew()

    def renew(self) -> None:
        """Whoever reads asks the journal where to go on."""
        self.recent.clear()
        for reader in self.readers:
            floor = self.line.floor([bucket(reader.topic)]) if reader.listens else None
            reader.place.moved(reader.place.pos, floor)

    def release(self, step: Release) -> None:
        for topic in TOPICS:
            self.recent.add(topic, [Item("e", one) for one in step.events if one.topic == topic])
        for reader in self.readers:
            found = [Placed(one.topic, one.pos or 0) for one in step.events if one.topic == reader.topic]
            if found and reader.listens:
                reader.offer(found)

    def forge(self, ahead: int, size: int, counted: int) -> None:
        """Somebody else publishes a head."""
        first = self.pos + ahead
        self.queue.append(Head("e", first, first + size, {bucket(TOPICS[0]): counted, 255: counted} if counted else {}))

    def fill(self, limit: int) -> None:
        """Ask for a page of what was missed, for the topics that have readers now; or have it arrive."""
        if self.asked is None:
            if self.filling:
                topics = {reader.topic for reader in self.readers if reader.listens} | set(self.recent.topics)
                self.take(self.line.stands("e", self.pos, self.line.mark))
                self.filling = self.line.filling
                if self.filling:
                    self.asked = (topics, self.line.last, min(self.line.target, self.pos))
            return
        (topics, after, target), self.asked = self.asked, None
        found = self.kept(topics, after, target)
        page = found[:limit]
        upto = page[-1].pos if len(found) > limit else target
        self.release(self.line.filled([live(one.topic, one.pos) for one in page], upto))
        self.filling = self.line.filling

    def settle(self) -> None:
        """Let everything come to rest: an idle head, all messages, all reading."""
        self.queue.append(Head("e", self.pos + 1, self.pos, {}))
        self.deliver(len(self.queue))
        while self.filling or self.asked:
            self.fill(2)
        for reader in self.readers:
            reader.full = False
            for _ in range(self.pos + 2):
                reader.step(self, 2)


class Reader:
    """One reader of one topic."""

    def __init__(self, topic: str, since: int) -> None:
        self.topic = topic
        self.since = since
        self.shown: list[int] = []
        self.place: Subscription[Placed] = Subscription(since)
        self.listens = False
        self.full = False
        self.gone = 0  # what lies up to here had been deleted when it came

    def bind(self, room: Room) -> None:
        """The buckets are bound and settled, then the reader listens: one step each, as in the feed."""
        number = bucket(self.topic)
        if number not in room.bound:
            room.bound.add(number)
        else:
            if not room.line.is_settled(number):
                room.line.settle(number, room.pos)
            self.listens = True
            room.recent.open(self.topic)
            self.show(self.place.bound(room.line.floor([number])))

    def offer(self, items: list[Placed]) -> None:
        before = self.place.pos
        fresh = self.place.offer(items)
        if fresh and self.full:
            self.place.full(before)
        else:
            self.show(fresh)

    def show(self, items: object) -> None:
        assert isinstance(items, (list, tuple))
        self.shown.extend(one.pos for one in items)

    def step(self, room: Room, limit: int) -> None:
        """Read on: bind if need be, then a page."""
        if not self.listens:
            self.bind(room)
        if self.full:
            return
        self.place.drained()
        if self.place.live:
            return
        before = self.place.pos
        reading = room.recent.find(self.topic, before, limit)
        if reading is not None:
            page, upto = [Placed(self.topic, one.pos) for one in reading.items], reading.upto
        else:
            found = room.kept({self.topic}, before, room.pos)
            page, more = found[:limit], len(found) > limit
            upto = page[-1].pos if more else room.pos
            room.recent.read(self.topic, before, [item(one) for one in page], upto, more=more)
        shown = self.place.page(page, upto)
        if len(shown) > 1 and limit == 1:
            # The socket took the first only.
            self.show(shown[:1])
            self.place.full(shown[0].pos)
        elif shown and limit == 0:
            self.place.full(before)
        else:
            self.show(shown)


records = st.tuples(
    st.just("record"),
    st.lists(st.sampled_from(TOPICS), min_size=1, max_size=5),
    st.sets(st.integers(0, 2), max_size=1),
)
steps = st.lists(
    records
    | st.tuples(st.just("repeat"), st.integers(1, 6))
    | st.tuples(st.just("deliver"), st.integers(1, 6))
    | st.tuples(st.just("fill"), st.integers(1, 3))
    | st.tuples(st.just("look"))
    | st.tuples(st.just("forge"), st.integers(-3, 5), st.integers(-1, 5), st.integers(0, 6))
    | st.tuples(st.just("join"), st.sampled_from(TOPICS), st.integers(0, 5))
    | st.tuples(st.just("step"), st.integers(0, 2), st.integers(1, 3))
    | st.tuples(st.just("full"), st.integers(0, 1))
    | st.tuples(st.just("leave"), st.integers(0, 1))
    | st.tuples(st.just("unbind"), st.sampled_from(TOPICS))
    | st.tuples(st.just("delete"), st.sampled_from(TOPICS), st.integers(1, 5))
    | st.tuples(st.just("erase"), st.sampled_from(TOPICS)),
    max_size=40,
)


class OnceInOrderTest(SynchronousTestCase):
    """The promise of the feed."""

    @settings(max_examples=600, deadline=None)
    @given(steps)
    @example(
        # A reader joins while a page of what was missed, asked for without its topic, is on its way.
        [("record", ["room.c"], {0}), ("deliver", 2), ("fill", 1), ("join", "room.c", 5), ("step", 2, 1), ("fill", 1)]
    )
    @example(
        # The bucket is not bound for a while, so the ring of its topic misses something.
        [
            ("record", ["room.a"], set()),
            ("deliver", 2),
            ("leave", 0),
            ("unbind", "room.a"),
            ("record", ["room.a"], set()),
            ("deliver", 2),
        ]
    )
    @example(
        [("record", ["room.a"], set()), ("delete", "room.a", 1), ("record", ["room.a"], set()), ("join", "room.a", 2)]
    )
    def test_every_event_once_in_order(self, script: list[tuple[object, ...]]) -> None:
        """Random losses, repeats, deletions, readers that come, go and are slow: in the end each was shown each event
        after its cursor that is kept, in order, and none that had been deleted when it came."""
        self.patch(ring, "RING_EVENTS", 3)
        self.patch(recent, "SEGMENTS_BYTES", 3 * ring.ITEM_BYTES)
        self.patch(recent, "RINGS_BYTES", 5 * ring.ITEM_BYTES)
        room = Room()
        lingering = bucket("room.c")  # bound by a reader that has left
        room.bound.add(lingering)
        room.line.settle(lingering, 0)
        for topic in ("room.a", "room.b"):
            reader = Reader(topic, 0)
            room.readers.append(reader)
            reader.step(room, 1)
            reader.step(room, 1)
        for action, *given_ in script:
            self.perform(room, str(action), given_)
        room.settle()
        for topic in TOPICS:  # and whoever comes now, from wherever
            for back in range(room.pos, -1, -1):
                room.join(topic, back)
        room.settle()
        for reader in room.readers:
            wanted = [one.pos for one in room.kept({reader.topic}, reader.since, room.pos)]
            self.assertEqual([pos for pos in reader.shown if pos > room.gone.get(reader.topic, 0)], wanted)
            self.assertEqual(reader.shown, sorted(set(reader.shown)))
            self.assertGreater(min(reader.shown, default=room.pos + 1), max(reader.since, reader.gone))

    def perform(self, room: Room, action: str, arguments: list[object]) -> None:
        match action, arguments:
            case "record", [list(topics), set(lost)]:
                room.record(topics, lost)
            case "repeat", [int(back)]:
                room.repeat(back)
            case "deliver", [int(count)]:
                room.deliver(count)
            case "fill", [int(limit)]:
                room.fill(limit)
            case "forge", [int(ahead), int(size), int(counted)]:
                room.forge(ahead, size, counted)
            case "look", []:
                room.take(room.line.stands("e", room.pos, room.line.mark))
            case "join", [str(topic), int(back)]:
                room.join(topic, back)
            case "leave", [int(number)] if number < len(room.readers):
                room.leave(number)
            case "unbind", [str(topic)]:
                room.unbind(topic)
            case "delete", [str(topic), int(count)]:
                room.delete(topic, count)
            case "erase", [str(topic)]:
                room.erase(topic)
            case "step", [int(number), int(limit)] if number < len(room.readers):
                room.readers[number].step(room, limit)
            case "full", [int(number)] if number < len(room.readers):
                room.readers[number].full = not room.readers[number].full


class LineTest(SynchronousTestCase):
    """What the line says in single cases."""

    def setUp(self) -> None:
        self.line = Line()
        self.line.begin("e", 10)
        self.line.settle(bucket("room.a"), 10)

    def test_whole_batch(self) -> None:
        """Events are released by their head, in pos order over all buckets."""
        self.line.settle(bucket("room.b"), 10)
        self.line.heard(LiveBatch("e", [live("room.b", 12)]))
        self.line.heard(LiveBatch("e", [live("room.a", 11)]))
        step = self.line.head(Head("e", 11, 12, {bucket("room.a"): 1, bucket("room.b"): 1}))
        assert isinstance(step, Release)
        self.assertEqual([one.pos for one in step.events], [11, 12])

    def test_foreign_buckets(self) -> None:
        """What happens in buckets that are not bound is nobody's loss."""
        step = self.line.head(Head("e", 11, 12, {bucket("room.b"): 2}))
        self.assertEqual(step, Release([]))

    def test_missed_head(self) -> None:
        """A head that does not follow the last one asks for what lies between."""
        self.assertIsInstance(self.line.head(Head("e", 13, 13, {})), Fill)
        self.assertEqual(self.line.target, 13)

    def test_deleted_before_it_was_told_again(self) -> None:
        """A batch told again after a takeover lacks what was deleted meanwhile: the journal is asked what that was."""
        self.line.heard(LiveBatch("e", [live("room.a", 11), live("room.a", 13)]))
        self.assertIsInstance(self.line.head(Head("e", 11, 13, {bucket("room.a"): 2})), Fill)

    def test_idle_head_finds_a_loss(self) -> None:
        """The repeated head of an idle recorder reveals a lost last message."""
        self.assertIsInstance(self.line.head(Head("e", 12, 11, {})), Fill)

    def test_new_epoch(self) -> None:
        """A head of another life of the journal has that asked; if it is true, every reader is sent to ask."""
        self.assertIsInstance(self.line.head(Head("f", 1, 3, {})), Ask)
        self.assertIsNone(self.line.stands("e", 10, self.line.mark))
        self.assertEqual((self.line.epoch, self.line.last), ("e", 10))
        self.assertIsInstance(self.line.stands("f", 3, self.line.mark), Renewed)
        self.assertEqual((self.line.epoch, self.line.last), ("f", 3))

    def test_bound_in_the_life_before(self) -> None:
        """Buckets that are bound bring all of the new life, although its numbers may be lower."""
        self.line.stands("f", 3, self.line.mark)
        self.assertEqual(self.line.floor([bucket("room.a")]), 3)
        self.assertIsInstance(self.line.head(Head("f", 4, 4, {bucket("room.a"): 1})), Fill)

    def test_set_back(self) -> None:
        """A head behind us has the journal asked: a takeover tells again, or it has been set back."""
        self.assertIsInstance(self.line.head(Head("e", 8, 9, {})), Ask)
        self.assertIsNone(self.line.stands("e", 10, self.line.mark))
        self.assertIsInstance(self.line.head(Head("e", 8, 7, {})), Ask)
        self.assertIsInstance(self.line.stands("e", 7, self.line.mark), Renewed)
        self.assertEqual(self.line.last, 7)

    def test_too_far(self) -> None:
        """What a head tells of, and the journal does not have, is not waited for; what another told of meanwhile is."""
        for wrong in (
            Head("e", 11, 1 << 60, {}),
            Head("e", 1 << 60, (1 << 60) - 1, {}),
            Head("e", 11, 1 << 60, {bucket("room.b"): 1 << 60}),
        ):
            self.assertIsInstance(self.line.head(wrong), Fill)
            self.assertIsNone(self.line.stands("e", 10, self.line.mark))
            self.assertFalse(self.line.filling)

    def test_led_past(self) -> None:
        """A wrong head that leads a little too far, past what comes next, is found out by that."""
        self.assertEqual(self.line.head(Head("e", 11, 13, {255: 3})), Release([]))
        self.line.heard(LiveBatch("e", [live("room.a", 11), live("room.a", 12)]))
        self.assertIsInstance(self.line.head(Head("e", 11, 12, {bucket("room.a"): 2})), Renewed)
        self.assertEqual(self.line.last, 12)

    def test_told_again(self) -> None:
        """What was released, and is told again, is known."""
        for _ in range(2):
            self.line.heard(LiveBatch("e", [live("room.a", 11), live("room.a", 12)]))
            self.line.head(Head("e", 11, 12, {bucket("room.a"): 2}))
            self.assertEqual(self.line.last, 12)
        self.assertFalse(self.line._held)

    def test_told_of_what_is_not_there(self) -> None:
        """What another told of while the journal was asked is still waited for."""
        self.assertIsInstance(self.line.head(Head("e", 11, 1 << 60, {})), Fill)
        mark = self.line.mark
        self.line.head(Head("e", 13, 13, {}))
        self.assertIsNone(self.line.stands("e", 12, mark))
        self.assertTrue(self.line.filling)

    def test_transient(self) -> None:
        """Transient events wait for no head."""
        event = LiveEvent("room.a", None, None, "1", "typing", "", 0, Raw(b"null"))
        self.assertEqual(self.line.heard(LiveBatch("", [event])), [event])

    def test_bounded(self) -> None:
        """Without a head, events are not held without bound; the journal has them."""
        for start in range(11, HELD_EVENTS + 200, 100):
            self.line.heard(LiveBatch("e", [live("room.a", start + n) for n in range(100)]))
        self.assertLessEqual(self.line._size, HELD_EVENTS)
        head = Head("e", 11, HELD_EVENTS + 110, {bucket("room.a"): HELD_EVENTS + 100})
        self.assertIsInstance(self.line.head(head), Fill)


class SubscriptionTest(SynchronousTestCase):
    """A reader's place in single cases."""

    def test_live_at_once(self) -> None:
        """Who asks from now on reads no history."""
        self.assertTrue(Subscription[Placed](10, 10).live)

    def test_aside_is_bounded(self) -> None:
        """Live events kept for a reader that reads history are bounded; it reads on to where they end."""
        place = Subscription[Placed](0, 0 + 5)
        for pos in range(6, JOIN_EVENTS + 10):
            self.assertEqual(place.offer([Placed("a", pos)]), ())
        self.assertEqual(list(place.page([], 5)), [])
        self.assertIs(place.phase, Phase.PAGING)
        shown = place.page([Placed("a", pos) for pos in range(6, JOIN_EVENTS + 10)], JOIN_EVENTS + 9)
        self.assertEqual(len(shown), JOIN_EVENTS + 4)
        self.assertTrue(place.live)

    def test_full_and_idle(self) -> None:
        """A reader whose socket was full, while nothing happened, goes live again without reading."""
        place = Subscription[Placed](10, 10)
        place.full()
        self.assertIs(place.phase, Phase.CURSOR)
        place.drained()
        self.assertTrue(place.live)
