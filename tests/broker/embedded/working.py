"""A process to be killed: publishes numbered job messages and takes them, for ever, and prints what it knows.

``c 7``: the broker confirmed message 7. ``h 7``: it was handed out. ``a 7``: it is about to be acknowledged.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from msgd.broker import topology
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Delivery
from msgd.messages.envelope import Message

QUEUE = topology.job_queues("crawl").new.name


async def main(reactor: Any, path: str, first: str) -> None:
    broker = EmbeddedBroker(path, reactor=reactor)
    await broker.start()
    await broker.declare_type("crawl")

    def take(delivery: Delivery) -> None:
        number = int(delivery.message.body)
        os.write(1, b"h %d\n" % number)
        if number % 3:  # every third one stays in hand
            os.write(1, b"a %d\n" % number)
            delivery.ack()

    await broker.consume(QUEUE, take, prefetch=1000)
    number = int(first)
    while True:
        numbers = range(number, number + 20)
        await gatherResults(
            [broker.publish(topology.JOBS, "crawl", Message(body=b"%d" % one), mandatory=True) for one in numbers]
        )
        os.write(1, b"".join(b"c %d\n" % one for one in numbers))
        number += 20


if __name__ == "__main__":
    task.react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
