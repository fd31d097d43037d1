"""RabbitMQ: publish+confirm and consume+ack, messages a second, beside pika's Twisted adapter on the same node.

``python -m bench.broker_amqp [MESSAGES]`` starts a node of its own. Both sides use the same exchange and quorum queue,
200-byte persistent messages with the same properties, as many unconfirmed publishes and the same prefetch, and
acknowledge each delivery by a call of its own; they take turns, so that both see the same machine.

Beside the rate stands the processor time per message, of the client's process and of the node, and how many cores each
was busy on: their sum, and that of the machine, tell who waits for whom.

Publishing is measured three times: to an exchange that nothing is bound to, to one quorum queue, and to four of them in
turn, as events and jobs go. A quorum queue takes the node some 26 us a message, five times as long as this client
takes, in a row of processes of which each is on one core (the channel's, the queue's, the log's): on two cores it is
busy on 1.3 while our client is on 0.25, with pika's, which takes 0.5, on 1.05. So a faster client leaves the rate
nearly as it is. What was tried, in the same minutes: 4,000 unconfirmed in place of 1,000 (as fast), two and four
connections (a fifth to two thirds more, for pika's too), pieces of 8 and 32 KiB sent before the turn's end (slower: the
node then reads less at a time). What a client can save there is its own processor time. The goal is printed there all
the same; the exit status tells of the other steps.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import cycle
from time import perf_counter, process_time
from typing import Any, Final, Protocol

import pika
from msgspec import Struct
from pika.adapters.twisted_connection import TwistedProtocolConnection
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from bench._processor import processor_s
from msgd.broker import topology
from msgd.broker.amqp import AmqpBroker
from msgd.broker.amqp.url import parse_url
from msgd.broker.interface import Delivery
from msgd.messages.envelope import Message
from tests.servers.rabbitmq import Node

REPEATS: Final = 5
MESSAGES: Final = 20_000
UNCONFIRMED: Final = 1000
"""Publishes under way at a time, as a recorder or a busy worker would have."""

PREFETCH: Final = 500
BODY: Final = b'{"url": "https://www.example.com/a/page.html", "status": 200, "bytes": 10240}'.ljust(200)
KEY: Final = "bench"
OTHERS: Final = ("bench1", "bench2", "bench3", "bench4")
QUEUE: Final = topology.job_queues(KEY).new.name
GOAL: Final = 1.5
"""Times pika's rate; where the node is what is waited for, its processor time in times of ours."""


async def windowed(count: int, publish: Callable[[], Deferred[Any]]) -> float:
    """Seconds until ``count`` calls of ``publish`` have fired, :data:`UNCONFIRMED` of them under way at a time."""
    done: Deferred[None] = Deferred()
    begun = ended = 0

    def begin() -> None:
        nonlocal begun
        begun += 1
        publish().addCallbacks(end, done.errback)

    def end(_: object) -> None:
        nonlocal ended
        ended += 1
        if begun < count:
            begin()
        elif ended == count:
            done.callback(None)

    start = perf_counter()
    for _ in range(min(UNCONFIRMED, count)):
        begin()
    await done
    return perf_counter() - start


class Side(Protocol):
    """One client of the two."""

    @property
    def name(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def publish(self, exchange: str, keys: Sequence[str], count: int) -> float:
        """Seconds to publish ``count`` messages under these keys in turn, and have them confirmed."""

    async def consume(self, count: int) -> float:
        """Seconds to consume and acknowledge the ``count`` messages that are in the queue."""


class Ours:
    """msgd.broker.amqp."""

    name = "msgd.broker.amqp"

    def __init__(self, url: str) -> None:
        self._broker = AmqpBroker(reactor, [url], name="bench", jitter=random.random)

    async def start(self) -> None:
        await self._broker.start()
        for key in (KEY, *OTHERS):
            await self._broker.declare_type(key)

    async def stop(self) -> None:
        await self._broker.stop()

    async def publish(self, exchange: str, keys: Sequence[str], count: int) -> float:
        message = Message(body=BODY, message_id="0123456789abcdef")
        turns = cycle(keys)
        return await windowed(count, lambda: self._broker.publish(exchange, next(turns), message))

    async def consume(self, count: int) -> float:
        done: Deferred[None] = Deferred()
        left = count

        def got(delivery: Delivery) -> None:
            nonlocal left
            assert delivery.message.body is not None
            delivery.ack()
            left -= 1
            if not left:
                done.callback(None)

        start = perf_counter()
        consumer = await self._broker.consume(QUEUE, got, prefetch=PREFETCH)
        await done
        elapsed = perf_counter() - start
        await consumer.stop()
        while (await self._broker.depths([QUEUE]))[QUEUE]:
            pass
        return elapsed


class Pika:
    """pika.adapters.twisted_connection."""

    name = "pika, Twisted adapter"

    def __init__(self, url: str) -> None:
        self._address = parse_url(url)
        self._connection: Any = None

    async def start(self) -> None:
        address = self._address
        parameters = pika.ConnectionParameters(
            virtual_host=address.vhost, credentials=pika.PlainCredentials(address.user, address.password)
        )
        endpoint: Any = TCP4ClientEndpoint(reactor, address.host, address.port)
        protocol: Any = TwistedProtocolConnection(parameters)
        self._connection = await connectProtocol(endpoint, protocol)
        await self._connection.ready

    async def stop(self) -> None:
        self._connection.close()
        await self._connection.closed

    async def publish(self, exchange: str, keys: Sequence[str], count: int) -> float:
        turns = cycle(keys)
        channel = await self._connection.channel()
        await channel.confirm_delivery()
        properties = pika.BasicProperties(
            content_type="application/json", message_id="0123456789abcdef", delivery_mode=2
        )
        elapsed = await windowed(count, lambda: channel.basic_publish(exchange, next(turns), BODY, properties))
        channel.close()
        return elapsed

    async def purge(self, keys: Sequence[str]) -> None:
        """Empty the queues of these keys."""
        channel = await self._connection.channel()
        for key in keys:
            await channel.queue_purge(topology.job_queues(key).new.name)
        channel.close()

    async def consume(self, count: int) -> float:
        channel = await self._connection.channel()
        await channel.basic_qos(prefetch_count=PREFETCH)
        start = perf_counter()
        queue, _tag = await channel.basic_consume(QUEUE)
        for _ in range(count):
            _channel, method, _properties, body = await queue.get()
            assert body is not None
            channel.basic_ack(method.delivery_tag)
        elapsed = perf_counter() - start
        channel.close()
        return elapsed


ALONE: Final = "publish+confirm, no queue"
QUEUED: Final = "publish+confirm, one quorum queue"
SPREAD: Final = "publish+confirm, four quorum queues"
CONSUMED: Final = "consume+ack"
BOUND: Final = frozenset({QUEUED, SPREAD})
"""Steps in which the node is what both clients wait for."""


class Run(Struct, frozen=True):
    """What one step took."""

    rate: float  # messages a second
    client_us: float  # processor time a message
    node_us: float


Step = Callable[[Side, int], Awaitable[float]]
"""One measurement: seconds for so many messages."""

STEPS: Final[Mapping[str, Step]] = {
    ALONE: lambda side, count: side.publish(topology.LIVE, [KEY], count),
    QUEUED: lambda side, count: side.publish(topology.JOBS, [KEY], count),
    CONSUMED: lambda side, count: side.consume(count),
    SPREAD: lambda side, count: side.publish(topology.JOBS, OTHERS, count),
}


async def timed(step: Step, side: Side, count: int) -> Run:
    """One run of one step of one side."""
    whole, client = processor_s(), process_time()
    elapsed = await step(side, count)
    client = process_time() - client
    node = processor_s() - whole - client
    return Run(count / elapsed, client / count * 1e6, node / count * 1e6)


async def measure(node: Node, count: int) -> int:
    """Print both, and the ratios; 0 if ours reaches the goal."""
    pika_side = Pika(node.url())
    sides: list[Side] = [Ours(node.url()), pika_side]
    runs: dict[tuple[str, str], list[Run]] = {}
    for side in sides:
        await side.start()
    for round_ in range(REPEATS + 1):
        for side in sides:
            for name, step in STEPS.items():
                done = await timed(step, side, count)
                if round_:  # the first warms up
                    runs.setdefault((name, side.name), []).append(done)
            await pika_side.purge(OTHERS)
    for side in sides:
        await side.stop()
    reached = True
    print(f"{os.cpu_count()} cores")
    for name in STEPS:
        print(f"{name}: {len(BODY)}-byte bodies, medians of {REPEATS} x {count:,}")
        medians = []
        for side in sides:
            done_all = runs[name, side.name]
            rates = [done.rate for done in done_all]
            rate, client_us, node_us = (
                statistics.median(getattr(done, field) for done in done_all) for field in Run.__struct_fields__
            )
            medians.append((rate, client_us))
            print(
                f"  {side.name:<22}{rate:>9,.0f}/s  ({min(rates):,.0f} to {max(rates):,.0f})"
                f"  processor: client {client_us:4.1f} us, node {node_us:4.1f} us each,"
                f" {rate * client_us / 1e6:.2f} and {rate * node_us / 1e6:.2f} cores"
            )
        (ours, ours_us), (peer, peer_us) = medians
        by_rate = name not in BOUND
        reached &= ours / peer >= GOAL or not by_rate
        print(
            f"  rate {ours / peer:.2f} x (goal {GOAL}{'' if by_rate else '; the node is the limit'}); "
            f"its client takes {peer_us / ours_us:.2f} x ours"
        )
    return 0 if reached else 1


def main() -> None:
    """Start a node, measure, and end it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    node = Node()
    status = 1

    async def run() -> None:
        nonlocal status
        status = await measure(node, count)

    try:
        node.start()
        task.react(lambda _reactor: Deferred.fromCoroutine(run()))
    except SystemExit as end:
        status = status or int(end.code or 0)
    finally:
        node.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
