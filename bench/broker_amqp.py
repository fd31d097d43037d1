"""RabbitMQ: publish+confirm and consume+ack, messages a second, beside pika's Twisted adapter on the same node.

``python -m bench.broker_amqp [MESSAGES]`` starts a node of its own. Both sides use the same exchange and quorum queue,
200-byte persistent messages with the same properties, as many unconfirmed publishes and the same prefetch, and
acknowledge each delivery by a call of its own; they take turns, so that both see the same machine.

Publishing is measured twice. A quorum queue holds any one channel back (RabbitMQ's ``quorum_commands_soft_limit``, and
the disk), whoever publishes; to an exchange that nothing is bound to, the clients are what is measured. Beside the rate
stands the processor time of the client's process per message, which a busy machine disturbs least.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time
from typing import Any, Final, Protocol

import pika
from pika.adapters.twisted_connection import TwistedProtocolConnection
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

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
QUEUE: Final = topology.job_queues(KEY).new.name
GOAL: Final = 1.5


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

    async def publish(self, exchange: str, count: int) -> float:
        """Seconds to publish ``count`` messages and have them confirmed."""

    async def consume(self, count: int) -> float:
        """Seconds to consume and acknowledge the ``count`` messages that are in the queue."""


class Ours:
    """msgd.broker.amqp."""

    name = "msgd.broker.amqp"

    def __init__(self, url: str) -> None:
        self._broker = AmqpBroker(reactor, [url], name="bench", jitter=random.random)

    async def start(self) -> None:
        await self._broker.start()
        await self._broker.declare_type(KEY)

    async def stop(self) -> None:
        await self._broker.stop()

    async def publish(self, exchange: str, count: int) -> float:
        message = Message(body=BODY, message_id="0123456789abcdef")
        return await windowed(count, lambda: self._broker.publish(exchange, KEY, message))

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

    async def publish(self, exchange: str, count: int) -> float:
        channel = await self._connection.channel()
        await channel.confirm_delivery()
        properties = pika.BasicProperties(
            content_type="application/json", message_id="0123456789abcdef", delivery_mode=2
        )
        elapsed = await windowed(count, lambda: channel.basic_publish(exchange, KEY, BODY, properties))
        channel.close()
        return elapsed

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
QUEUED: Final = "publish+confirm, quorum queue"
CONSUMED: Final = "consume+ack"


async def measure(node: Node, count: int) -> int:
    """Print both, and the ratios; 0 if both reach the goal."""
    sides: list[Side] = [Ours(node.url()), Pika(node.url())]
    rates: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    for side in sides:
        await side.start()
    for round_ in range(REPEATS + 1):
        for side in sides:
            steps: list[tuple[str, Callable[[], Awaitable[float]]]] = [
                (ALONE, lambda side=side: side.publish(topology.LIVE, count)),  # type: ignore[misc]
                (QUEUED, lambda side=side: side.publish(topology.JOBS, count)),  # type: ignore[misc]
                (CONSUMED, lambda side=side: side.consume(count)),  # type: ignore[misc]
            ]
            for step, run in steps:
                before = process_time()
                elapsed = await run()
                if round_:  # the first warms up
                    rates.setdefault((step, side.name), []).append(count / elapsed)
                    costs.setdefault((step, side.name), []).append((process_time() - before) / count)
    for side in sides:
        await side.stop()
    reached = True
    for step in (ALONE, QUEUED, CONSUMED):
        ours, peer = (statistics.median(rates[step, side.name]) for side in sides)
        goal = f" (goal {GOAL})" if step != QUEUED else ""
        reached &= not goal or ours / peer >= GOAL
        print(f"{step}: {len(BODY)}-byte bodies, medians of {REPEATS} x {count:,}")
        for side in sides:
            each, cost = rates[step, side.name], statistics.median(costs[step, side.name]) * 1e6
            print(
                f"  {side.name:<22}{statistics.median(each):>9,.0f}/s  ({min(each):,.0f} to {max(each):,.0f})"
                f"  {cost:5.1f} us of processor each"
            )
        print(f"  ratio {ours / peer:.2f}{goal}")
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
