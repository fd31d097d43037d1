"""The embedded broker: publish+confirm and consume+ack, messages a second. ``python -m bench.embedded [MESSAGES]``"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from twisted.internet import task
from twisted.internet.defer import Deferred

from msgd.broker import topology
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Delivery
from msgd.messages.envelope import Message

REPEATS: Final = 5
UNCONFIRMED: Final = 1000
"""Publishes under way at a time, as a recorder or a busy worker would have."""

PREFETCH: Final = 200
BODY: Final = b'{"url": "https://www.example.com/a/page.html", "status": 200, "bytes": 10240}' + b" " * 120
QUEUE: Final = topology.job_queues("bench").new.name


async def publish_all(broker: EmbeddedBroker, count: int) -> float:
    """Seconds to publish ``count`` messages and have them confirmed."""
    message = Message(body=BODY, message_id="m")
    done: Deferred[None] = Deferred()
    published = confirmed = 0

    def publish() -> None:
        nonlocal published
        published += 1
        broker.publish(topology.JOBS, "bench", message, mandatory=True).addCallbacks(on_confirm, done.errback)

    def on_confirm(_: None) -> None:
        nonlocal confirmed
        confirmed += 1
        if published < count:
            publish()
        elif confirmed == count:
            done.callback(None)

    start = perf_counter()
    for _ in range(min(UNCONFIRMED, count)):
        publish()
    await done
    return perf_counter() - start


async def consume_all(broker: EmbeddedBroker, count: int) -> float:
    """Seconds to consume and acknowledge ``count`` messages that are in the queue."""
    done: Deferred[None] = Deferred()
    left = count

    def take(delivery: Delivery) -> None:
        nonlocal left
        delivery.ack()
        left -= 1
        if not left:
            done.callback(None)

    start = perf_counter()
    consumer = await broker.consume(QUEUE, take, prefetch=PREFETCH)
    await done
    await consumer.stop()
    return perf_counter() - start


async def through(broker: EmbeddedBroker, count: int) -> float:
    """Seconds to publish, consume and acknowledge ``count`` messages, all at once."""
    start = perf_counter()
    consuming = Deferred.fromCoroutine(consume_all(broker, count))
    await publish_all(broker, count)
    await consuming
    return perf_counter() - start


async def main(reactor: Any, *arguments: str) -> None:
    count = int(arguments[0]) if arguments else 20_000
    rates: dict[str, list[float]] = {"publish+confirm": [], "consume+ack": [], "through": []}
    with tempfile.TemporaryDirectory(prefix="msgd-bench-") as folder:
        broker = EmbeddedBroker(Path(folder) / "broker.sqlite3", reactor=reactor)
        await broker.start()
        await broker.declare_type("bench")
        for _ in range(REPEATS):
            rates["publish+confirm"].append(count / await publish_all(broker, count))
            rates["consume+ack"].append(count / await consume_all(broker, count))
            rates["through"].append(count / await through(broker, count))
        print(f"{broker.description}, {count} messages of {len(BODY)} bytes, median of {REPEATS}")
        await broker.stop()
    for name, values in rates.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"{name:16} {statistics.median(values):>9,.0f} messages/s   ({spread})")


if __name__ == "__main__":
    task.react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
