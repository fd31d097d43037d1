"""A steady stream to many: ``python -m bench.fanout_steady [--quick]``, its latency beside nchan's.

Latency is from publish to receive. Ten messages a second of 200 bytes of JSON for 15 s on one topic, to which 1,000
WebSockets are subscribed. Ours are journaled before they are pushed (RabbitMQ, commit in PostgreSQL with ``fsync=on``,
RabbitMQ), with one notifier, and with two that have 500 clients each; nchan's are in memory. The contenders take turns
of 5 s, in which the p99 of fifty messages is about the slowest of them: one slow sync of the disk, which ours wait for
and nchan does not, stands there alone. Who they are, and how they are set, is told in ``bench/_pushers.py``.
``--quick`` is a smoke test, whose figures mean nothing.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Final

from bench._crowd import Crowd, Figures, stamped
from bench._pushers import Msgd, Nchan, Pusher, servers
from msgd.notifier.wave import IN_C

TURNS: Final = 3
CLIENTS: Final = 1000
MESSAGES: Final = 50
"""In one turn."""

INTERVAL_S: Final = 0.1
PATIENCE_S: Final = 40.0
GOALS: Final = {"msgd": 1.25, "msgd, 2 notifiers": 1.0}
"""At most so many times nchan's."""


def paced(messages: int) -> Iterator[bytes]:
    """Messages, each stamped when its time has come."""
    begun_s = time.monotonic()
    for number in range(messages):
        time.sleep(max(0.0, begun_s + number * INTERVAL_S - time.monotonic()))
        yield stamped(number)


def steady(pusher: Pusher, clients: int, messages: int) -> Figures:
    """One turn, with a fresh crowd."""
    with Crowd(pusher.door(), clients, each=messages, seconds=PATIENCE_S) as crowd:
        crowd.standing()
        pusher.publish(paced(messages))
        return crowd.figures()


def main() -> int:
    """Print the table; 0 if the goals are reached."""
    quick = "--quick" in sys.argv
    clients, messages, turns = (50, 10, 1) if quick else (CLIENTS, MESSAGES, TURNS)
    with ExitStack() as stack:
        node, cluster = stack.enter_context(servers())
        contenders: list[Pusher] = [
            stack.enter_context(closing(Msgd(node, cluster))),
            stack.enter_context(closing(Msgd(node, cluster, notifiers=2))),
            stack.enter_context(closing(Nchan())),
        ]
        runs: dict[str, list[Figures]] = {pusher.name: [] for pusher in contenders}
        for pusher in contenders:
            steady(pusher, clients, 10)  # warms up
        for _ in range(turns):
            for pusher in contenders:
                runs[pusher.name].append(steady(pusher, clients, messages))
    return report(runs, clients, messages)


def report(runs: dict[str, list[Figures]], clients: int, messages: int) -> int:
    """Print the table; 0 if every contender delivered everything, and ours reach the goals."""
    peer = _latencies(runs["nchan"])
    turns = len(runs["msgd"])
    print(f"{1 / INTERVAL_S:g} messages a second to {clients:,} WebSockets, medians of {turns} turns of {messages};")
    print(f"msgd's loop over its sockets is the one in {'C' if IN_C else 'Python'}")
    print(f"{'':<20} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'p50, p99 to nchan':>20}")
    reached = True
    for name, several in runs.items():
        p50, p99 = _latencies(several)
        goal = GOALS.get(name)
        whole = all(figures.whole for figures in several)
        reached &= whole and (goal is None or (p50 / peer[0] <= goal and p99 / peer[1] <= goal))
        ratios = f"{p50 / peer[0]:.2f}x, {p99 / peer[1]:.2f}x"
        wanted = f" (goal {goal:g})" if goal else ""
        said = "" if whole else f"  NOT WHOLE: {max(several, key=lambda one: one.connections - one.complete)}"
        longest = max(figures.max_ms for figures in several)
        print(f"{name:<20} {p50:>8.1f} {p99:>8.1f} {longest:>8.1f} {ratios:>20}{wanted}{said}")
    return 0 if reached else 1


def _latencies(several: Sequence[Figures]) -> tuple[float, float]:
    return statistics.median(one.p50_ms for one in several), statistics.median(one.p99_ms for one in several)


if __name__ == "__main__":
    sys.exit(main())
