"""The embedded broker against a model: any order of publishing, settling, stopping and crashing.

Threads and reactor turn only when a rule says so, and the limits are so small that queues are paged all the time.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker import topology
from msgd.broker.embedded import EmbeddedBroker, broker, queues, store, writer
from msgd.broker.interface import Consumer, Delivery
from msgd.messages.envelope import Message
from tests.database.deterministic import Stepped, SteppedReactor

WRITER = "sqlite-writer"
JOBS = topology.job_queues("crawl").new.name
EVENTS = topology.JOB_EVENTS_QUEUE
WAYS = {JOBS: (topology.JOBS, "crawl"), EVENTS: (topology.EVENTS, "job.1")}
SMALL = [
    (queues, "WAITING_MESSAGES", 6),
    (queues, "REFILL_BELOW", 3),
    (store, "PAGE_MESSAGES", 4),
    (writer, "BATCH_MESSAGES", 5),
    (broker, "TURN_DELIVERIES", 3),
]


class EmbeddedModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.limits = [(module, name, getattr(module, name)) for module, name, _ in SMALL]
        for module, name, value in SMALL:
            setattr(module, name, value)
        self.folder = Path(tempfile.mkdtemp(prefix="msgd-model-"))
        self.last = 0
        self.queue_of: dict[int, str] = {}
        self.confirmed: set[int] = set()
        self.settled: set[int] = set()  # acked in a life that ended cleanly: never to be seen again
        self.acked: set[int] = set()  # in this life
        self.doubtful: set[int] = set()  # acked in a life that crashed
        self.handed: set[int] = set()
        self.crashed = False
        self.wrong: list[AssertionError] = []
        self.in_hand: list[Delivery] = []
        self.consumers: list[Consumer] = []
        self.open()

    def open(self) -> None:
        self.reactor, self.threads = SteppedReactor(), Stepped()
        self.broker = EmbeddedBroker(self.folder / "broker.sqlite3", reactor=self.reactor, workers=self.threads)
        self.done(self.broker.start())
        self.done(self.broker.declare_type("crawl"))

    def teardown(self) -> None:
        try:
            self.clean_restart()
            self.drain()
            self.done(self.broker.stop())
        finally:
            for module, name, value in self.limits:
                setattr(module, name, value)
            shutil.rmtree(self.folder)

    def done(self, coroutine: Any) -> Any:
        """The result of ``coroutine``, for which everything runs as long as it needs."""
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        self.run_all()
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def run_all(self) -> None:
        self.reactor.advance(0)
        while self.threads.step(WRITER):
            self.reactor.advance(0)
        if self.wrong:
            raise self.wrong[0]

    # -- what may happen -------------------------------------------------------------------------------------------

    @rule(queue=st.sampled_from(sorted(WAYS)), count=st.integers(1, 9))
    def publish(self, queue: str, count: int) -> None:
        for _ in range(count):
            self.last += 1
            number = self.last
            self.queue_of[number] = queue
            publishing = self.broker.publish(*WAYS[queue], Message(body=str(number).encode()), mandatory=True)
            publishing.addCallback(self.on_confirm, number)

    def on_confirm(self, _: None, number: int) -> None:
        self.confirmed.add(number)

    @rule(queue=st.sampled_from(sorted(WAYS)), prefetch=st.integers(1, 5))
    def consume(self, queue: str, prefetch: int) -> None:
        consuming = self.broker.consume(queue, self.deliver, prefetch=prefetch, ordered=queue == EVENTS)
        self.consumers.append(self.done(consuming))

    def deliver(self, delivery: Delivery) -> None:
        try:
            self.check_delivery(delivery)
        except AssertionError as error:
            self.wrong.append(error)  # the broker would log it, and go on
        self.in_hand.append(delivery)

    def check_delivery(self, delivery: Delivery) -> None:
        number = int(delivery.message.body)
        assert delivery.queue == self.queue_of[number]
        held = {int(one.message.body) for one in self.in_hand if one.current}
        assert number not in held, "handed out twice at a time"
        assert number not in self.settled | self.acked, "handed out after its ack"
        older = {one for one in self.confirmed if one < number and self.queue_of[one] == delivery.queue}
        assert older <= held | self.settled | self.acked | self.doubtful, "an older message was passed over"
        if number in self.handed:
            assert delivery.redelivered
        elif not self.crashed:
            assert not delivery.redelivered
        self.handed.add(number)

    @rule(data=st.data())
    @precondition(lambda self: self.consumers)
    def stop_consumer(self, data: st.DataObject) -> None:
        consumer = self.consumers.pop(data.draw(st.integers(0, len(self.consumers) - 1)))
        Deferred.fromCoroutine(consumer.stop())

    @rule(data=st.data(), count=st.integers(1, 5))
    @precondition(lambda self: self.in_hand)
    def ack(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.in_hand))):
            delivery = self.in_hand.pop(data.draw(st.integers(0, len(self.in_hand) - 1)))
            if delivery.current:
                self.acked.add(int(delivery.message.body))
            delivery.ack()

    @rule(rounds=st.integers(1, 8))
    @precondition(lambda self: self.consumers)
    def work(self, rounds: int) -> None:
        """The consumers do what they are there for."""
        for _ in range(rounds):
            self.run_all()
            for delivery in self.in_hand:
                if delivery.current:
                    self.acked.add(int(delivery.message.body))
                    delivery.ack()
            self.in_hand = []

    @rule(data=st.data())
    @precondition(lambda self: any(one.queue == JOBS for one in self.in_hand))
    def requeue(self, data: st.DataObject) -> None:
        delivery = data.draw(st.sampled_from([one for one in self.in_hand if one.queue == JOBS]))
        self.in_hand.remove(delivery)
        delivery.requeue()

    @rule()
    def turn(self) -> None:
        self.reactor.advance(0)

    @rule()
    def write(self) -> None:
        self.threads.step(WRITER)

    @rule()
    def settle(self) -> None:
        """Nothing is under way: what is neither acked nor in hand is ready."""
        self.run_all()
        self.in_hand = [one for one in self.in_hand if one.current]
        if self.doubtful or self.crashed:
            return
        depths = self.done(self.broker.depths(list(WAYS)))
        for queue in WAYS:
            left = {one for one in self.confirmed - self.settled - self.acked if self.queue_of[one] == queue}
            assert depths[queue] == len(left) - sum(one.queue == queue for one in self.in_hand)

    @rule()
    def clean_restart(self) -> None:
        self.done(self.broker.stop())
        assert not any(one.current for one in self.in_hand)
        self.settled |= self.acked
        self.new_life()

    @rule()
    def crash(self) -> None:
        """The process is gone, with what it had not committed; the file stays."""
        self.broker._lock.release()
        self.crashed = True
        self.doubtful |= self.acked
        self.new_life()

    def new_life(self) -> None:
        self.acked = set()
        self.in_hand, self.consumers = [], []
        self.open()

    # -- the end ---------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Everything that was confirmed and not acked is there, in order, and nothing that was acked for sure."""
        for queue in WAYS:
            seen: list[int] = []

            def take(delivery: Delivery, seen: list[int] = seen) -> None:
                seen.append(int(delivery.message.body))
                delivery.ack()

            self.done(self.broker.consume(queue, take, prefetch=3))
            self.run_all()
            assert seen == sorted(set(seen))
            published = {one for one, name in self.queue_of.items() if name == queue}
            assert published & (self.confirmed - self.settled - self.doubtful) <= set(seen)
            assert set(seen) <= published - self.settled
            assert self.done(self.broker.depths([queue])) == {queue: 0}


class ModelTests(SynchronousTestCase):
    def test_model(self) -> None:
        """Nothing confirmed is lost, nothing acked comes back, order and redelivery marks hold, whatever happens."""
        run_state_machine_as_test(
            EmbeddedModel, settings=settings(max_examples=30, stateful_step_count=40, deadline=None)
        )
