"""One process of ours for bench.jobs_noop: ``python -m bench._noop_ours BROKER DATABASE DUTIES WARM_UP JOBS``.

``DUTIES`` are those of this process, of ``submit``, ``work`` and ``record``: one process has them all, or three
share them as the daemons notifier, worker and recorder do. Whoever submits does so for each line on its standard input
(at the first, fewer, to warm up), waits until they are performed and recorded, and prints how many that were a second.
A job counts when the journal has both its events, ``started`` and ``done``; its message is acknowledged before that.
(How far live push has come is written down with the next batch, or by an idle recorder after 2 s: it would measure
that.) Each ends with its standard input.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any, Final

from msgspec import Struct
from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from msgd.app.collector import calm_collector
from msgd.broker.amqp import AmqpBroker
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker
from msgd.clock import Clock, sleep
from msgd.database import Database
from msgd.jobs.interface import Jobs, Submission
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.journal.interface import Journal
from msgd.journal.sql import SQLJournal
from msgd.services.recorder.service import Recorder
from msgd.work import Context, Done, job
from msgd.work.attempt import Limits
from msgd.work.parts import Part, Parts
from msgd.work.runner import Runner

CONCURRENCY: Final = 256
"""Slices at a time: claims and ends are committed in groups, so cheap jobs want many under way."""

SUBMITTERS: Final = 200
"""Submissions under way at a time, as of a busy web application."""

LOOK_S: Final = 0.05


class Nothing(Struct):
    """Params of a job that does nothing."""

    number: int


@job("noop", Nothing)
async def noop(context: Context[Nothing]) -> Done:
    """Nothing."""
    return Done()


async def submit(jobs: Jobs, count: int) -> None:
    """Submit so many jobs, :data:`SUBMITTERS` at a time."""
    numbers = iter(range(count))

    async def submitter() -> None:
        for number in numbers:
            await jobs.submit(Submission(type="noop", params=b'{"number":%d}' % number))

    await gatherResults([Deferred.fromCoroutine(submitter()) for _ in range(SUBMITTERS)], consumeErrors=True)


async def once(jobs: Jobs, journal: Journal, clock: Clock, count: int) -> float:
    """Jobs a second, from the first submission to the last event."""
    upto = (await journal.head()).pos + 2 * count
    begun = time.perf_counter()
    await submit(jobs, count)
    while (await journal.head()).pos < upto:
        await sleep(clock, LOOK_S)
    return count / (time.perf_counter() - begun)


async def run(clock: Any, broker_url: str, database_url: str, duties: Sequence[str], counts: Iterator[int]) -> None:
    """Do the duties; print the rates, as they are asked for."""
    process = f"bench-{os.getpid()}"
    database = Database(database_url, reactor=clock)
    broker: Broker
    if broker_url.startswith("amqp"):
        broker = AmqpBroker(clock, [broker_url], name=process, jitter=random.random)
    else:
        broker = EmbeddedBroker(broker_url, reactor=clock)
    publisher = Publisher(SqlOutbox(database, clock=clock), broker, clock=clock)
    jobs = SqlJobs(database, clock=clock, post=publisher.post)
    journal = SQLJournal(database, now_ms=lambda: int(clock.seconds() * 1000))
    parts: list[Part] = [database, broker, publisher]
    if "record" in duties:
        parts.append(Recorder(journal=journal, jobs=jobs, broker=broker, clock=clock, process=process))
    if "work" in duties:
        limits = Limits(concurrency=CONCURRENCY)
        parts.append(Runner([noop], jobs=jobs, broker=broker, clock=clock, process=process, limits=lambda _: limits))
    life = Parts(parts)
    await life.start()
    calm_collector()  # as every daemon does
    while await deferToThread(sys.stdin.readline):
        print(await once(jobs, journal, clock, next(counts)), flush=True)
    await life.stop()


if __name__ == "__main__":
    broker, database, duties, warm_up, count = sys.argv[1:]
    counts = chain([int(warm_up)], repeat(int(count)))
    task.react(lambda given: Deferred.fromCoroutine(run(given, broker, database, duties.split(","), counts)))
