"""msgd's side of ``bench.crawl``: ``python -m bench._crawl_msgd URL CONCURRENCY FOLDER``

Everything in one process on the embedded defaults: the job is submitted and claimed, its events go through the broker
and the recorder into the journal. Prints the pages crawled, and the seconds from the submission until the journal has
the job's end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from msgd.broker.embedded import EmbeddedBroker
from msgd.clock import sleep
from msgd.database import Database
from msgd.jobs.interface import State, Submission
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.journal.sql import SQLJournal
from msgd.messages import json
from msgd.messages.topics import job_topic
from msgd.services.crawler.worker import Crawler
from msgd.services.recorder.service import Recorder
from msgd.work.network import Reach, parse_networks
from msgd.work.parts import Parts
from msgd.work.runner import Runner


async def main(reactor: Any, url: str, concurrency: str, folder: str) -> None:
    database = Database(f"sqlite:///{folder}/msgd.sqlite3", reactor=reactor)
    broker = EmbeddedBroker(Path(folder) / "broker.sqlite3", reactor=reactor)
    outbox = Publisher(SqlOutbox(database, clock=reactor), broker, clock=reactor)
    jobs = SqlJobs(database, clock=reactor, post=outbox.post)
    journal = SQLJournal(database, now_ms=lambda: int(reactor.seconds() * 1000))
    recorder = Recorder(journal=journal, jobs=jobs, broker=broker, clock=reactor, process="bench-recorder")
    crawler = Crawler(reactor, Reach(parse_networks(["127.0.0.0/8"])), robots=False)
    runner = Runner([crawler], jobs=jobs, broker=broker, clock=reactor, process="bench-crawler")
    parts = Parts([database, broker, outbox, recorder, runner])
    await parts.start()
    params = {
        "url": url,
        "match": [{"name": "heading", "css": "h1"}],
        "depth": 1000,
        "max_pages": 1_000_000,
        "delay": 0,
        "concurrency": int(concurrency),
        "sitemap": False,
    }
    begun = time.perf_counter()
    job = (await jobs.submit(Submission(type="crawl", params=json.encode(params)))).job.id
    while (found := await jobs.get(job)).shown_state not in (State.DONE, State.FAILED):
        await sleep(reactor, 0.05)
    seconds = time.perf_counter() - begun
    page = await journal.read([job_topic(job)], after=0, limit=1_000_000)
    results = sum(1 for one in page.events if one.event.type == "result")
    assert found.shown_state is State.DONE, found
    print(results if not page.more else "more", seconds)
    await parts.stop()


if __name__ == "__main__":
    task.react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
