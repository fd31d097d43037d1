"""How many events a second the journal takes in: ``python -m bench.journal``.

SQLite in a file with ``synchronous=FULL`` and PostgreSQL with ``fsync=on``, batches of 500 events with 200 to 300 bytes
of data, as the recorder appends them. Printed: the median of several repetitions, each on a fresh database.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from msgd.database import Database
from msgd.journal.sql import SQLJournal
from msgd.messages.events import Event, event_id
from tests.servers.postgres import Cluster

BATCH: Final = 500
GOAL: Final = 10_000
"""Events a second that SQLite has to reach."""


def batches(count: int, topics: int) -> list[list[Event]]:
    """``count`` batches of the events of ``topics`` crawls that run side by side."""
    chance = random.Random(1)
    made = []
    for batch in range(count):
        events = []
        for number in range(BATCH):
            job = f"job{chance.randrange(topics)}"
            text = b"x" * chance.randint(160, 260)
            events.append(
                Event(
                    topic=f"job.{job}",
                    type="result",
                    id=event_id(job, 1, "result", f"{batch}-{number}"),
                    source="crawl",
                    time_ms=1_700_000_000_000 + batch,
                    data=b'{"url":"http://127.0.0.1/","value":"' + text + b'"}',
                    run=1,
                    token=1,
                )
            )
        made.append(events)
    return made


async def append_all(url: str, given: Sequence[Sequence[Event]]) -> float:
    """Seconds to append the batches, one after the other."""
    database = Database(url, reactor=reactor)
    await database.start()
    try:
        journal = SQLJournal(database, now_ms=lambda: int(time.time() * 1000))
        lease = await journal.acquire("bench", ttl_ms=600_000)
        assert lease is not None
        begun = time.perf_counter()
        for events in given:
            await journal.append(lease, events)
        return time.perf_counter() - begun
    finally:
        await database.stop()


async def measure(
    name: str, once: Callable[[Sequence[Sequence[Event]]], Awaitable[float]], options: argparse.Namespace
) -> float:
    """Print and return the median rate, in events a second."""
    given = batches(options.batches, options.topics)
    rates = [options.batches * BATCH / await once(given) for _ in range(options.repeat)]
    median: float = statistics.median(rates)
    spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
    print(f"{name:<28} {median:>9,.0f} events/s   ({spread}; {median / GOAL:.1f} x the goal of {GOAL:,})")
    return median


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="msgd-bench-") as folder:
        numbers = iter(range(options.repeat))

        async def on_sqlite(given: Sequence[Sequence[Event]]) -> float:
            return await append_all(f"sqlite:///{Path(folder) / f'{next(numbers)}.sqlite3'}", given)

        await measure("SQLite, synchronous=FULL", on_sqlite, options)
    cluster = Cluster(fsync=True)
    try:
        cluster.start()

        async def on_postgresql(given: Sequence[Sequence[Event]]) -> float:
            return await append_all(cluster.url(cluster.create_database()), given)

        await measure("PostgreSQL, fsync=on", on_postgresql, options)
    finally:
        cluster.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = _options()
    react(lambda _: Deferred.fromCoroutine(main(chosen)))
