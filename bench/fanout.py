"""A burst to many: ``python -m bench.fanout [--quick]``, deliveries a second, beside nchan, Web-STOMP and Tornado.

200 messages of 200 bytes of JSON are published at once on one topic, to which 1,000 WebSockets are subscribed; the rate
is all deliveries by the time from the first publish to the last receive. Ours go through RabbitMQ, the journal and
RabbitMQ again; the others keep nothing, or only memory. The contenders take turns; what is printed is the median. Who
they are, and how they are set, is told in ``bench/_pushers.py``. ``--quick`` is a smoke
test, whose figures mean nothing.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack, closing
from typing import Final

from bench._crowd import Crowd, Figures, raise_limit, stamped
from bench._pushers import Msgd, MsgdAlone, Nchan, Pusher, Tornado, WebStomp, stomp_node
from tests.servers.postgres import Cluster

REPEATS: Final = 3
CLIENTS: Final = 1000
MESSAGES: Final = 200
PATIENCE_S: Final = 40.0
BUDGET_S: Final = 60.0
"""No round is begun after this: on a busy machine the slowest peer takes half a minute for a burst."""

GOALS: Final = {"nchan": 3.0, "RabbitMQ Web-STOMP": 10.0, "Tornado and pika": 10.0}


def burst(pusher: Pusher, clients: int, messages: int) -> Figures:
    """One burst to a fresh crowd."""
    with Crowd(pusher.door(), clients, each=messages, seconds=PATIENCE_S) as crowd:
        crowd.standing()
        pusher.publish(stamped(number) for number in range(messages))
        return crowd.figures()


def main() -> int:
    """Print the table; 0 if the goals are reached."""
    quick = "--quick" in sys.argv
    clients, messages, repeats = (50, 20, 1) if quick else (CLIENTS, MESSAGES, REPEATS)
    raise_limit()
    with ExitStack() as stack:
        node, port = stomp_node()
        stack.callback(node.close)
        node.start()
        cluster = Cluster(fsync=True)
        stack.callback(cluster.close)
        cluster.start()
        contenders: list[Pusher] = [
            stack.enter_context(closing(Msgd(node, cluster))),
            stack.enter_context(closing(MsgdAlone())),
            stack.enter_context(closing(Nchan())),
            stack.enter_context(closing(WebStomp(node, port))),
            stack.enter_context(closing(Tornado(node))),
        ]
        runs: dict[str, list[Figures]] = {pusher.name: [] for pusher in contenders}
        burst(contenders[0], clients, messages)  # warms up
        begun_s = time.monotonic()
        for _ in range(repeats):
            if time.monotonic() - begun_s > BUDGET_S:
                break
            for pusher in contenders:
                runs[pusher.name].append(burst(pusher, clients, messages))
    return report(runs, clients, messages)


def report(runs: dict[str, list[Figures]], clients: int, messages: int) -> int:
    """Print the table; 0 if every contender delivered everything, and ours reaches the goals."""
    ours = statistics.median(figures.per_s for figures in runs["msgd"])
    print(f"a burst of {messages} messages to {clients:,} WebSockets: median of {len(runs['msgd'])}, lowest, highest")
    print(f"{'':<28} {'deliveries/s':>12} {'':>21} {'p99 ms':>8} {'ours to it':>11}")
    reached = True
    for name, several in runs.items():
        rates = [figures.per_s for figures in several]
        rate, p99 = statistics.median(rates), statistics.median(figures.p99_ms for figures in several)
        goal = GOALS.get(name)
        whole = all(figures.whole for figures in several)
        reached &= whole and (goal is None or ours / rate >= goal)
        spread = f"({min(rates):,.0f}-{max(rates):,.0f})"
        wanted = f" (goal {goal:g})" if goal else ""
        said = "" if whole else f"  NOT WHOLE: {max(several, key=lambda one: one.connections - one.complete)}"
        print(f"{name:<28} {rate:>12,.0f} {spread:>21} {p99:>8,.0f} {ours / rate:>10.2f}x{wanted}{said}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
