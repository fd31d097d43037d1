"""Jobs a second through the database: submitted, claimed and ended by many callers at once, grouped by their commits.

``python -m bench.jobs [--jobs N] [--callers N] [URL …]``; without a URL on a new SQLite file and on a new PostgreSQL
cluster (which syncs its writes, as in production).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from msgd.database import Database
from msgd.jobs.interface import Claim, Claimed, ClaimRequest, OutboxRow, State, Submission
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs

REPETITIONS = 3


async def _timed(count: int, callers: int, one: Callable[[int], Awaitable[object]]) -> float:
    """Calls a second of ``one(number)``, ``callers`` at a time."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await one(number)

    begun = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(caller()) for _ in range(callers)], consumeErrors=True)
    return count / (time.perf_counter() - begun)


async def _once(database: Database, reactor: object, count: int, callers: int) -> dict[str, float]:
    posted: list[OutboxRow] = []
    jobs = SqlJobs(database, clock=reactor, post=posted.extend)  # type: ignore[arg-type]  # a reactor is a clock too
    outbox = SqlOutbox(database, clock=reactor)  # type: ignore[arg-type]  # a reactor is a clock too
    ids: list[str] = []
    claims: dict[str, Claim] = {}

    async def submit(number: int) -> None:
        submission = Submission(type="bench", params=b'{"url":"http://127.0.0.1/","number":%d}' % number)
        ids.append((await jobs.submit(submission)).job.id)

    async def claim(number: int) -> None:
        claimed = await jobs.claim(ClaimRequest(ids[number], 0, "bench", redelivered=False))
        assert isinstance(claimed, Claimed)
        claims[ids[number]] = claimed.claim

    async def end(number: int) -> None:
        await jobs.end(claims[ids[number]], State.DONE, result=b'{"ok":true}')

    async def settle(number: int) -> None:
        await outbox.published(events[number * 500 : number * 500 + 500], again_ms=0)

    async def take(_number: int) -> None:
        await outbox.take(lease_ms=3_600_000, limit=500)

    rates = {}
    begun = time.perf_counter()
    rates["submit"] = await _timed(count, callers, submit)
    rates["claim"] = await _timed(count, callers, claim)
    rates["end"] = await _timed(count, callers, end)
    rates["all three"] = count / (time.perf_counter() - begun)
    events = [row for row in posted if row.is_event]
    rates["events settled"] = 500 * await _timed(count // 500, 1, settle)
    rates["events taken again"] = 500 * await _timed(count // 500, 1, take)
    return rates


async def _bench(url: str, count: int, callers: int, reactor: object) -> None:
    database = Database(url, reactor=reactor)  # type: ignore[arg-type]  # a reactor is a clock too
    await database.start()
    runs = [await _once(database, reactor, count, callers) for _ in range(REPETITIONS)]
    await database.stop()
    print(f"{database.dialect}: {count} jobs, {callers} callers, median of {REPETITIONS}")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"  {name:<20} {statistics.median(values):>9,.0f}/s   ({min(values):,.0f} to {max(values):,.0f})")


async def _all(urls: Sequence[str], count: int, callers: int, reactor: object) -> None:
    if urls:
        for url in urls:
            await _bench(url, count, callers, reactor)
        return
    with tempfile.TemporaryDirectory(prefix="msgd-bench-") as folder:
        await _bench(f"sqlite:///{Path(folder) / 'jobs.sqlite3'}", count, callers, reactor)
    from tests.servers.postgres import Cluster

    cluster = Cluster(fsync=True)
    try:
        cluster.start()
        await _bench(cluster.url(cluster.create_database()), count, callers, reactor)
    finally:
        cluster.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*", metavar="URL")
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--callers", type=int, default=400)
    options = parser.parse_args()
    task.react(lambda reactor: Deferred.fromCoroutine(_all(options.urls, options.jobs, options.callers, reactor)))


if __name__ == "__main__":
    main()
