"""The peer of bench.jobs_noop: a Celery task that does nothing, acknowledged late."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("noop", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    task_default_queue="noop",
)


@app.task(name="noop")
def noop(number: int) -> None:
    """Nothing."""
