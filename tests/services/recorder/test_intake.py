"""Which deliveries make a batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.envelope import Message
from msgd.messages.events import Event
from msgd.services.recorder.intake import BATCH, BATCH_BYTES, Intake
from msgd.services.recorder.sorting import Given, Item, Refused

QUEUES = ("talk", "jobs")

event = Event(topic="job.j", type="sent", id="1", source="mail", time_ms=0)


class Letter(Struct, eq=False):
    """A delivery of its own kind: nothing is behind it."""

    queue: str
    number: int
    message: Message = Message(body=b"")
    current: bool = True
    exchange: str = ""
    key: str = ""
    redelivered: bool = False

    def ack(self) -> None: ...

    def requeue(self) -> None: ...

    def dead(self, reason: str) -> Deferred[None]:
        return succeed(None)


def named(batch: list[Item]) -> list[tuple[str, int]]:
    """Queue and number of each."""
    found = []
    for item in batch:
        assert isinstance(item.delivery, Letter)
        found.append((item.delivery.queue, item.delivery.number))
    return found


class IntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.intake = Intake(QUEUES)
        self.count = 0

    def test_events_count(self) -> None:
        """A delivery of several events counts as so many, and is never divided."""
        for number in range(3):
            letter = Letter("jobs", number)
            self.intake.add(Given(letter, (event,) * (BATCH // 2)), 0.0)
        self.assertEqual(named(self.intake.take()), [("jobs", 0), ("jobs", 1)])
        self.add("talk", 0)
        self.assertEqual(named(self.intake.take()), [("talk", 0), ("jobs", 2)])

    def add(self, queue: str, number: int, **fields: object) -> Letter:
        letter = Letter(queue, number, **fields)  # type: ignore[arg-type]  # fields of several types
        self.intake.add(Refused(letter, ""), float(self.count))
        self.count += 1
        return letter

    def test_in_turn(self) -> None:
        """One of each queue while both have some, however many wait in one; then the rest."""
        for number in range(1000):
            self.add("jobs", number)
        for number in range(3):
            self.add("talk", number)
        batch = named(self.intake.take())
        self.assertEqual(batch[:7], [(queue, n) for n in range(3) for queue in QUEUES] + [("jobs", 3)])
        self.assertEqual(len(batch), BATCH)
        self.assertEqual(named(self.intake.take())[0], ("jobs", BATCH - 3))

    def test_bytes(self) -> None:
        """A batch of large events is short."""
        size = 1024 * 1024
        for number in range(20):
            self.add("jobs", number, message=Message(body=b"x" * size))
        self.assertEqual(len(self.intake.take()), BATCH_BYTES // size)

    def test_void(self) -> None:
        """What cannot be acknowledged any more is dropped: it comes again, behind itself."""
        for number in range(3):
            self.add("jobs", number, current=False)
        for number in range(3):
            self.add("jobs", number)
        self.assertEqual(named(self.intake.take()), [("jobs", 0), ("jobs", 1), ("jobs", 2)])

    def test_given_back(self) -> None:
        """A batch that comes back is the next one, in its order, before what came meanwhile."""
        for number in range(3):
            self.add("jobs", number)
            self.add("talk", number)
        batch = self.intake.take()
        self.add("jobs", 3)
        self.intake.give_back(batch, 9.0)
        self.assertEqual(named(self.intake.take()), [*named(batch), ("jobs", 3)])

    def test_oldest(self) -> None:
        """The oldest one tells the lag; when nothing waits there is none."""
        self.assertIsNone(self.intake.oldest_s)
        self.add("jobs", 0)
        self.add("talk", 0)
        self.assertEqual(self.intake.oldest_s, 0.0)
        self.intake.take()
        self.assertIsNone(self.intake.oldest_s)
        self.add("talk", 1)
        self.intake.clear()
        self.assertIsNone(self.intake.oldest_s)

    @given(st.lists(st.sampled_from([*QUEUES, "take", "fail"]), max_size=60))
    def test_order_is_kept(self, steps: list[str]) -> None:
        """Whatever arrives, is taken and comes back: each queue's order is kept, and nothing is lost or doubled."""
        self.intake = Intake(QUEUES)
        sent = dict.fromkeys(QUEUES, 0)
        done: list[tuple[str, int]] = []
        for step in [*steps, "take"]:
            if step in sent:
                self.add(step, sent[step])
                sent[step] += 1
            else:
                batch = self.intake.take()
                if step == "fail":
                    self.intake.give_back(batch, 0.0)
                else:
                    done.extend(named(batch))
        for queue in QUEUES:
            self.assertEqual([number for name, number in done if name == queue], list(range(sent[queue])))
