"""The line and the subscription together: whatever is lost, late, doubled or slow, every kept event once, in order."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import Head, LiveBatch, LiveEvent
from msgd.messages.topics import bucket
from msgd.notifier.limits import HELD_EVENTS, JOIN_EVENTS
from msgd.notifier.line import Fill, Line, Release, Renewed
from msgd.notifier.subscription import Phase, Subscription

TOPICS = ("room.a", "room.b", "room.c")  # of three buckets


class Placed(Struct, frozen=True):
    """An event as a reader is shown it."""

    topic: str
    pos: int


def live(topic: str, pos: int) -> LiveEvent:
    return LiveEvent(topic, 1, pos, str(pos), "said", "", 0, Raw(b"null"))


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

    @property
    def pos(self) -> int:
        return len(self.journal)

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
        elif isinstance(step, Renewed):
            raise AssertionError("the journal lives one life only")

    def release(self, step: Release) -> None:
        for reader in self.readers:
            found = [Placed(one.topic, one.pos or 0) for one in step.events if one.topic == reader.topic]
            if found and reader.listens:
                reader.offer(found)

    def fill(self, limit: int) -> None:
        """Ask for a page of what was missed, for the topics that have readers now; or have it arrive."""
        if self.asked is None:
            if self.filling:
                topics = {reader.topic for reader in self.readers if reader.listens}
                self.asked = (topics, self.line.last, self.line.target)
            return
        (topics, after, target), self.asked = self.asked, None
        found = [one for one in self.journal if after < one.pos <= target and one.topic in topics]
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

    def bind(self, room: Room) -> None:
        """The buckets are bound and settled, then the reader listens: one step each, as in the feed."""
        number = bucket(self.topic)
        if number not in room.bound:
            room.bound.add(number)
        else:
            if not room.line.is_settled(number):
                room.line.settle(number, room.pos)
            self.listens = True
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
        found = [one for one in room.journal if one.pos > self.place.pos and one.topic == self.topic]
        page = found[:limit]
        before = self.place.pos
        shown = self.place.page(page, page[-1].pos if len(found) > limit else room.pos)
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
    | st.tuples(st.just("join"), st.sampled_from(TOPICS), st.integers(0, 5))
    | st.tuples(st.just("step"), st.integers(0, 2), st.integers(1, 3))
    | st.tuples(st.just("full"), st.integers(0, 1)),
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
    def test_every_event_once_in_order(self, script: list[tuple[object, ...]]) -> None:
        """Random losses, repeats, joins, slow readers: in the end each was shown each event after its cursor."""
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
        for reader in room.readers:
            wanted = [one.pos for one in room.journal if one.topic == reader.topic and one.pos > reader.since]
            self.assertEqual(reader.shown, wanted)

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
            case "look", []:
                room.take(room.line.known(room.pos))
            case "join", [str(topic), int(back)]:
                room.readers.append(Reader(topic, max(0, room.pos - back)))
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

    def test_idle_head_finds_a_loss(self) -> None:
        """The repeated head of an idle recorder reveals a lost last message."""
        self.assertIsInstance(self.line.head(Head("e", 12, 11, {})), Fill)

    def test_new_epoch(self) -> None:
        """Another life of the journal sends every reader to ask."""
        self.assertIsInstance(self.line.head(Head("f", 1, 3, {})), Renewed)
        self.assertEqual((self.line.epoch, self.line.last), ("f", 3))

    def test_set_back(self) -> None:
        """So does an idle head behind us; a repeated batch does not."""
        self.assertIsNone(self.line.head(Head("e", 8, 9, {})))
        self.assertIsInstance(self.line.head(Head("e", 8, 7, {})), Renewed)

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
