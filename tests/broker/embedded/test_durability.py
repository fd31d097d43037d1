"""The embedded broker's promises where a process ends: by kill -9, or on a full disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.broker import topology
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.embedded.queues import WAITING_MESSAGES
from msgd.broker.embedded.store import PAGE_MESSAGES
from msgd.broker.embedded.writer import RETRY_S
from msgd.broker.interface import Delivery
from msgd.database import Transaction
from msgd.errors import BrokerUnavailable, ConfigError, InvalidInput
from msgd.messages.envelope import Message
from tests.contract.broker_base import Inbox, Watcher, ack, message, numbers
from tests.database.deterministic import Stepped, SteppedReactor

QUEUE = topology.job_queues("crawl").new.name
T = TypeVar("T")
PROJECT = Path(__file__).parents[3]


class KilledTests(TestCase):
    timeout = 300

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "broker.sqlite3"

    async def test_kill_9(self) -> None:
        """After kill -9 all that was confirmed and not acked comes again, in order; what was handed out is marked."""
        first = 0
        for _ in range(3):
            told = self.run_and_kill(first)
            broker = EmbeddedBroker(self.path, reactor=reactor)
            await broker.start()
            inbox = Inbox()
            consumer = await broker.consume(QUEUE, inbox, prefetch=100_000)
            deliveries = await inbox.take((await broker.depths([QUEUE]))[QUEUE])
            found = numbers(deliveries)
            self.assertEqual(found, sorted(set(found)))
            missing = told["c"] - told["a"] - set(found)
            self.assertEqual(missing, set())
            self.assertTrue(told["h"] - told["a"])
            for delivery, number in zip(deliveries, found, strict=True):
                if number in told["h"]:
                    self.assertTrue(delivery.redelivered, number)
                delivery.ack()
            await consumer.stop()
            await broker.stop()
            first = max(found) + 1

    def run_and_kill(self, first: int) -> dict[str, set[int]]:
        """What a process told before it was killed in mid-work."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.embedded.working", str(self.path), str(first)],
            stdout=subprocess.PIPE,
            cwd=PROJECT,
        )
        assert process.stdout is not None
        with process.stdout:
            lines = [process.stdout.readline() for _ in range(1500)]
            process.send_signal(signal.SIGKILL)
            lines += [line for line in process.stdout if line.endswith(b"\n")]
        process.wait()
        told: dict[str, set[int]] = {"c": set(), "h": set(), "a": set()}
        for line in lines:
            kind, number = line.decode().split()
            told[kind].add(int(number))
        return told


class OneProcessTests(TestCase):
    async def test_second_process(self) -> None:
        """A file that is open is refused with a clear error, and free once its broker was stopped."""
        path = Path(self.mktemp()) / "broker.sqlite3"
        first = EmbeddedBroker(path, reactor=reactor)
        await first.start()
        second = EmbeddedBroker(path, reactor=reactor)
        with self.assertRaises(ConfigError) as caught:
            await second.start()
        self.assertIn("another one has its file open", caught.exception.message)
        await second.stop()
        await first.stop()
        await second.start()
        await second.stop()

    async def test_start_and_stop_race(self) -> None:
        """Starts and stops that overlap leave the broker in the state that was asked for last."""
        broker = EmbeddedBroker(Path(self.mktemp()) / "broker.sqlite3", reactor=reactor)
        for _ in range(20):
            racing = [broker.start(), broker.stop(), broker.stop(), broker.start(), broker.start()]
            await gatherResults([Deferred.fromCoroutine(one) for one in racing])
            self.assertTrue(broker.accepting)
            await broker.declare_type("crawl")
            await broker.publish(topology.JOBS, "crawl", message(1), mandatory=True)
            await broker.stop()
            self.assertFalse(broker.accepting)
        await broker.start()
        self.assertEqual(await broker.depths([QUEUE]), {QUEUE: 20})
        await broker.stop()

    async def test_consume_before_start(self) -> None:
        """A consumer may come before the start, and waits; a stop without a start ends the wait with an error."""
        broker = EmbeddedBroker(Path(self.mktemp()) / "broker.sqlite3", reactor=reactor)
        await broker.declare_type("crawl")
        inbox = Inbox(ack)
        waiting = Deferred.fromCoroutine(broker.consume(QUEUE, inbox, prefetch=1))
        self.assertNoResult(waiting)
        await broker.start()
        await waiting
        await broker.publish(topology.JOBS, "crawl", message(1))
        self.assertEqual(numbers(await inbox.take()), [1])
        await broker.stop()
        refused = Deferred.fromCoroutine(broker.consume(QUEUE, inbox, prefetch=1))
        await broker.stop()
        self.failureResultOf(refused, BrokerUnavailable)


class LimitsTests(TestCase):
    async def opened(self) -> EmbeddedBroker:
        broker = EmbeddedBroker(Path(self.mktemp()) / "broker.sqlite3", reactor=reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        await broker.start()
        await broker.declare_type("crawl")
        return broker

    async def test_long_queue(self) -> None:
        """A queue of any length is handed out in order, and only a part of it is in memory at a time."""
        broker = await self.opened()
        count = 3 * (WAITING_MESSAGES + PAGE_MESSAGES)
        queue = broker._queues[QUEUE]
        await gatherResults([broker.publish(topology.JOBS, "crawl", message(n)) for n in range(count)])
        self.assertEqual(queue.in_memory, 0)
        most = 0

        def take(delivery: Delivery) -> None:
            nonlocal most
            most = max(most, queue.in_memory)
            delivery.ack()

        inbox = Inbox(take)
        await broker.consume(QUEUE, inbox, prefetch=10)
        self.assertEqual(numbers(await inbox.take(count)), list(range(count)))
        self.assertLessEqual(most, WAITING_MESSAGES + PAGE_MESSAGES)
        await gatherResults([broker.publish(topology.JOBS, "crawl", message(n)) for n in range(10)])
        self.assertEqual(numbers(await inbox.take(10)), list(range(10)))

    async def test_slow_consumer(self) -> None:
        """What comes faster than it is taken stays in the file, in order."""
        broker = await self.opened()
        queue = broker._queues[QUEUE]
        inbox = Inbox()
        await broker.consume(QUEUE, inbox, prefetch=1)
        count = 2 * WAITING_MESSAGES
        await gatherResults([broker.publish(topology.JOBS, "crawl", message(n)) for n in range(count)])
        self.assertLessEqual(queue.in_memory, WAITING_MESSAGES)
        self.assertEqual(await broker.depths([QUEUE]), {QUEUE: count - 1})
        for number in range(count):
            (delivery,) = await inbox.take()
            self.assertEqual(numbers([delivery]), [number])
            delivery.ack()

    async def test_large_messages(self) -> None:
        """Large messages count by their size: a page of them does not fill the memory."""
        broker = await self.opened()
        body = b"x" * 1_000_000
        for _ in range(20):
            await broker.publish(topology.JOBS, "crawl", Message(body=body))
        queue = broker._queues[QUEUE]
        most = 0

        def take(delivery: Delivery) -> None:
            nonlocal most
            most = max(most, queue.in_memory)
            delivery.ack()

        inbox = Inbox(take)
        await broker.consume(QUEUE, inbox, prefetch=1)
        await inbox.take(20)
        self.assertLess(most, 10)

    async def test_delivery_limit(self) -> None:
        """A job message that comes back for ever is made dead, with the reason; events are not."""
        broker = await self.opened()
        graves = Inbox(ack)
        await broker.consume(topology.DEAD_QUEUE, graves, prefetch=1)
        tries = 0

        def give_back(delivery: Delivery) -> None:
            nonlocal tries
            tries += 1
            delivery.requeue()

        await broker.consume(QUEUE, give_back, prefetch=1)
        await broker.publish(topology.JOBS, "crawl", message(1))
        (grave,) = await graves.take()
        self.assertEqual(tries, topology.DELIVERY_LIMIT + 1)
        self.assertEqual(grave.message.body, b"1")
        self.assertIn("delivered 51 times", str(grave.message.headers["msgd-reason"]))
        self.assertEqual(grave.message.headers["msgd-queue"], QUEUE)
        self.assertEqual(await broker.depths([QUEUE]), {QUEUE: 0})

    async def test_what_cannot_travel(self) -> None:
        """A message that no file could hold fails alone, with InvalidInput; what was published beside it is stored."""
        broker = await self.opened()
        no_value: Any = object()
        bad = [
            broker.publish(topology.JOBS, "crawl", Message(body=b"", headers={"a": no_value})),
            broker.publish(topology.JOBS, "crawl", Message(body=b"", headers={"a": 1 << 80})),
            broker.publish(topology.JOBS, "crawl", Message(body=b"", message_id="\ud800")),
            broker.publish(topology.EVENTS, "job.\ud800", message(1)),
            broker.publish(topology.EVENTS, "job." + "x" * 252, message(1)),
        ]
        good = broker.publish(topology.JOBS, "crawl", message(1))
        for publishing in bad:
            self.failureResultOf(publishing, InvalidInput)
        await good
        self.assertEqual(await broker.depths([QUEUE]), {QUEUE: 1})

    async def test_reply_queue_of_bounded_length(self) -> None:
        """A reply queue that is full drops the oldest."""
        broker = await self.opened()
        inbox = Inbox()
        await broker.reply_queue(inbox, bindings=[(topology.LIVE, "1")], lost=lambda: None, max_length=10)
        for number in range(25):
            broker.publish(topology.LIVE, "1", message(number))
        self.assertEqual(numbers(await inbox.take(10)), list(range(15, 25)))


class FullDiskTests(SynchronousTestCase):
    """Step by step, on a file that does not grow."""

    def setUp(self) -> None:
        self.reactor, self.threads = SteppedReactor(), Stepped()
        self.path = Path(self.mktemp()) / "broker.sqlite3"
        self.broker = EmbeddedBroker(self.path, reactor=self.reactor, workers=self.threads)
        self.watcher = Watcher()
        self.broker.observe(self.watcher)
        self.finish(self.broker.start())
        self.finish(self.broker.declare_type("crawl"))

    def finish(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """What ``coroutine`` returns, for which everything runs as long as it needs."""
        result = Deferred.fromCoroutine(coroutine)
        self.run_all()
        return self.successResultOf(result)

    def run_all(self) -> None:
        self.reactor.advance(0)
        while self.threads.step("sqlite-writer"):
            self.reactor.advance(0)

    def limit(self, more: int) -> None:
        """From now on the file grows by ``more`` pages at most: SQLite then says what it says when a disk is full."""

        def change(transaction: Transaction) -> None:
            pages = transaction.exec_driver_sql("PRAGMA page_count").scalar_one()
            transaction.exec_driver_sql(f"PRAGMA max_page_count = {pages + more}")

        self.finish(self.broker._database.write(change))

    def test_publishes_wait(self) -> None:
        """On a full disk the broker says that it is blocked, keeps what it has, and confirms once there is room."""
        inbox = Inbox()
        self.finish(self.broker.consume(QUEUE, inbox, prefetch=10))
        self.limit(1)
        publishing = self.broker.publish(topology.JOBS, "crawl", Message(body=b"x" * 100_000))
        self.run_all()
        self.assertNoResult(publishing)
        self.assertFalse(self.broker.accepting)
        self.assertEqual(self.watcher.told, ["connected", "blocked"])
        self.reactor.advance(RETRY_S)
        self.run_all()
        self.assertNoResult(publishing)
        self.assertEqual(inbox.seen, [])
        self.limit(1000)
        self.reactor.advance(RETRY_S)
        self.run_all()
        self.successResultOf(publishing)
        self.assertTrue(self.broker.accepting)
        self.assertEqual(self.watcher.told, ["connected", "blocked", "unblocked"])
        self.assertEqual(len(inbox.seen), 1)
        self.finish(self.broker.stop())

    def test_stop_while_full(self) -> None:
        """A stop on a full disk does not wait for ever: what is unconfirmed fails, and may be published again."""
        self.limit(1)
        publishing = self.broker.publish(topology.JOBS, "crawl", Message(body=b"x" * 100_000))
        self.run_all()
        self.finish(self.broker.stop())
        self.failureResultOf(publishing, BrokerUnavailable)
        again = EmbeddedBroker(self.path, reactor=self.reactor, workers=self.threads)
        self.finish(again.start())
        self.assertEqual(self.finish(again.depths([QUEUE])), {QUEUE: 0})
        self.finish(again.stop())
