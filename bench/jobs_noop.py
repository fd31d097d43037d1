"""Jobs that do nothing, a second: ours beside Celery's on the same RabbitMQ. ``python -m bench.jobs_noop [JOBS]``.

Ours are submitted (the jobs row and its message commit together), claimed, journaled (started, done), pushed live and
acknowledged last; by three daemons as in a deployment (who submits, a worker, a recorder), or all in one process.
Celery does less: it publishes without a confirm, keeps no record, and acknowledges late. It runs with two processes as
it comes, and in the setting that was found best for such tasks (a large prefetch; no gossip, mingle and heartbeat).
Each side submits while it works, and ends when its last job is acknowledged. The contenders take turns, so that all of
them see the same machine. Beside the rate stands the processor time that all processes together (client, worker,
broker, database) took for a job.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench._processor import processor_s
from tests.servers.postgres import Cluster
from tests.servers.rabbitmq import Node

JOBS: Final = 5000
REPEATS: Final = 3
WARM_UP: Final = 500
LOOK_S: Final = 0.05
QUEUE: Final = "noop"

PLAIN: Final = ("-c", "2", "-P", "prefork")
BEST: Final = (*PLAIN, "-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat")
DAEMONS: Final = ("submit", "work", "record")
ALL_IN_ONE: Final = ",".join(DAEMONS)


@contextmanager
def celery_worker(broker: str, prefetch: int, options: Sequence[str]) -> Iterator[None]:
    """A Celery worker that has performed its warm-up."""
    environment = {**os.environ, "BENCH_BROKER": broker, "BENCH_PREFETCH": str(prefetch)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "bench._celery_app", "worker", "-l", "WARNING", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(30)


def celery(node: Node, prefetch: int, options: Sequence[str], count: int) -> Generator[float, None, None]:
    """Jobs a second, for each time the next is asked for; the first is the warm-up."""
    broker = node.url()
    os.environ["BENCH_BROKER"] = broker
    from bench._celery_app import app, noop

    def left() -> bool:
        """Whether any message is in the queue or in hand: both count, so this is about acknowledgements."""
        queues = 'rabbit_amqqueue:info_all(<<"/">>, [name, messages])'
        return node.order(f'[M || [{{name, {{_, _, _, <<"{QUEUE}">>}}}}, {{messages, M}}] <- {queues}]') != "[0]"

    with celery_worker(broker, prefetch, options), app.producer_pool.acquire(block=True) as producer:
        numbers = WARM_UP
        while True:
            begun = time.perf_counter()
            for number in range(numbers):
                noop.apply_async((number,), producer=producer)
            while left():
                time.sleep(LOOK_S)
            numbers = count
            yield numbers / (time.perf_counter() - begun)


def ours(broker: str, database: str, count: int, *shares: str) -> Generator[float, None, None]:
    """Jobs a second, for each time the next is asked for; the first is the warm-up. ``shares``: the duties of each
    process, the first of them to submit."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench._noop_ours", broker, database, duties, str(WARM_UP), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for duties in shares
    ]
    asked = processes[0]
    assert asked.stdin is not None
    assert asked.stdout is not None
    try:
        while True:
            asked.stdin.write("go\n")
            asked.stdin.flush()
            yield float(asked.stdout.readline())
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            process.wait(30)


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    node, cluster = Node(), Cluster(fsync=True)
    folder = Path(tempfile.mkdtemp(prefix="msgd-bench-"))
    contenders: dict[str, Callable[[], Generator[float, None, None]]] = {
        "msgd, three daemons, PostgreSQL": lambda: ours(
            node.url(), cluster.url(cluster.create_database()), count, *DAEMONS
        ),
        "msgd, one process, PostgreSQL": lambda: ours(
            node.url(), cluster.url(cluster.create_database()), count, ALL_IN_ONE
        ),
        "msgd, one process, SQLite": lambda: ours(
            node.url(), f"sqlite:///{folder}/{time.time_ns()}.sqlite3", count, ALL_IN_ONE
        ),
        "Celery, as it comes": lambda: celery(node, 4, PLAIN, count),
        "Celery, tuned": lambda: celery(node, 128, BEST, count),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        node.start()
        cluster.start()
        for _ in range(REPEATS):
            for name, begin in contenders.items():
                runs = begin()
                next(runs)
                before = processor_s()
                rates[name].append(next(runs))
                costs[name].append((processor_s() - before) / count)
                runs.close()
    finally:
        node.close()
        cluster.close()
        shutil.rmtree(folder)
    base = statistics.median(rates["Celery, as it comes"])
    print(f"jobs that do nothing: {count} jobs, median of {REPEATS}, with the lowest and the highest")
    print(f"{'':<32} {'jobs/s':>8} {'':>15} {'to Celery':>10} {'processor':>14}")
    for name, values in rates.items():
        rate, cost = statistics.median(values), statistics.median(costs[name])
        spread = f"({min(values):,.0f}-{max(values):,.0f})"
        print(f"{name:<32} {rate:>8,.0f} {spread:>15} {rate / base:>9.2f}x {cost * 1000:>8.2f} ms/job")


if __name__ == "__main__":
    main()
