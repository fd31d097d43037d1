"""The way of one event from publish to a notifier, stage by stage: ``python -m bench.latency [EVENTS]``.

Ten events a second of 200 bytes, as ``bench.fanout_steady`` has them: published to RabbitMQ, recorded on PostgreSQL
with ``fsync=on`` (then on SQLite), received on a queue such as a notifier has. All ours run in this one process, over
connections of their own, so that one clock times them. Beside it stands the floor: what this machine takes to sync
8 KiB to the disk.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred

from msgd.app.collector import calm_collector
from msgd.broker.amqp import AmqpBroker
from msgd.broker.interface import Delivery
from msgd.broker.topology import EVENTS, LIVE
from msgd.clock import sleep
from msgd.database import Database
from msgd.jobs.sql import SqlJobs
from msgd.journal.sql import SQLJournal
from msgd.messages.envelope import Message
from msgd.messages.live import decode_batch
from msgd.messages.topics import bucket
from msgd.services.recorder.service import Recorder
from msgd.work.parts import Parts
from tests.servers.postgres import Cluster
from tests.servers.rabbitmq import Node

EVENTS_EACH: Final = 200
WARM_UP: Final = 20
INTERVAL_S: Final = 0.1
TOPIC: Final = "bench.latency"
BODY: Final = b'"' + b"x" * 198 + b'"'
STAGES: Final = ("publish to recorder", "stored", "pushed live", "together")
SYNCS: Final = 200


class Timed(SQLJournal):
    """A journal that notes when the last batch came to it, and when that was committed."""

    came_s = committed_s = 0.0

    async def append(self, *positional: Any, **named: Any) -> Any:
        came_s = time.perf_counter()
        appended = await super().append(*positional, **named)
        if appended.recorded:
            self.came_s, self.committed_s = came_s, time.perf_counter()
        return appended


class Ear:
    """A notifier's queue."""

    def __init__(self) -> None:
        self.heard: Deferred[float] = Deferred()

    def __call__(self, delivery: Delivery) -> None:
        for event in decode_batch(delivery.message.body).events:
            if event.topic == TOPIC:
                heard, self.heard = self.heard, Deferred()
                heard.callback(time.perf_counter())


async def stages(node: Node, database_url: str, count: int) -> list[tuple[float, ...]]:
    """The stages of each event, in seconds."""
    clock: Any = reactor
    database = Database(database_url, reactor=clock)
    ours, theirs, notifier = (
        AmqpBroker(clock, [node.url()], name=name, jitter=random.random) for name in ("recorder", "web", "notifier")
    )
    journal = Timed(database, now_ms=lambda: int(clock.seconds() * 1000))
    jobs = SqlJobs(database, clock=clock)
    recorder = Recorder(journal=journal, jobs=jobs, broker=ours, clock=clock, process="bench")
    life = Parts([database, ours, theirs, notifier, recorder])
    await life.start()
    calm_collector()
    ear = Ear()
    await notifier.reply_queue(ear, bindings=[(LIVE, str(bucket(TOPIC)))], lost=lambda: None)
    found: list[tuple[float, ...]] = []
    for number in range(WARM_UP + count):
        await sleep(clock, INTERVAL_S)
        message = Message(body=BODY, type="tick", app_id="bench", message_id=f"{os.getpid()}-{number}")
        heard = ear.heard
        begun_s = time.perf_counter()
        await theirs.publish(EVENTS, TOPIC, message)
        heard_s = await heard
        times = (begun_s, journal.came_s, journal.committed_s, heard_s)
        found.append((*(after - before for before, after in pairwise(times)), heard_s - begun_s))
    await life.stop()
    return found[WARM_UP:]


def sync_s(folder: Path) -> list[float]:
    """What it takes to write 8 KiB at the end of a file, and to sync them."""
    path = folder / "sync"

    def one(file: int) -> float:
        begun_s = time.perf_counter()
        os.write(file, bytes(8192))
        os.fdatasync(file)
        return time.perf_counter() - begun_s

    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        return [one(file) for _ in range(SYNCS)]
    finally:
        os.close(file)


def _percentiles(values_s: Sequence[float]) -> str:
    cuts = statistics.quantiles(values_s, n=100)
    return f"{cuts[49] * 1000:>8.2f} {cuts[98] * 1000:>8.2f}"


def _lines(found: Sequence[tuple[float, ...]]) -> Iterator[str]:
    for stage, values_s in zip(STAGES, zip(*found, strict=True), strict=True):
        yield f"  {stage:<22}{_percentiles(values_s)}"


def main() -> None:
    """Print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS_EACH
    node, cluster = Node(), Cluster(fsync=True)
    folder = Path(tempfile.mkdtemp(prefix="msgd-bench-"))

    async def run() -> None:
        urls = {
            "PostgreSQL": cluster.url(cluster.create_database()),
            "SQLite": f"sqlite:///{folder}/journal.sqlite3",
        }
        print(f"{1 / INTERVAL_S:g} events a second, {count} each; ms  {'p50':>6} {'p99':>8}")
        for name, url in urls.items():
            print(name, *_lines(await stages(node, url, count)), sep="\n")
        print(f"  {'a sync of 8 KiB':<22}{_percentiles(sync_s(folder))}")

    try:
        node.start()
        cluster.start()
        task.react(lambda _reactor: Deferred.fromCoroutine(run()))
    finally:
        node.close()
        cluster.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
