"""A herd comes back: ``python -m bench.resume [--quick]``, the time until all have caught up, beside nchan.

1,000 events of 200 bytes of JSON are on a topic; then 1,000 WebSockets connect at once and ask for all of them.
Printed: from the first connect until the last has its last event; and for each client, from its own connect. Ours reads
its journal (PostgreSQL), which keeps any number; nchan sends what its buffer in memory holds. RabbitMQ Web-STOMP and
Tornado keep nothing to resume from. The contenders take turns. How they are set is told in ``bench/_pushers.py``.
``--quick`` is a smoke test, whose figures mean nothing.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack, closing
from typing import Final

from bench._crowd import Crowd, Figures, stamped
from bench._pushers import Msgd, Nchan, Pusher, servers

REPEATS: Final = 2
CLIENTS: Final = 1000
EVENTS: Final = 1000
PATIENCE_S: Final = 60.0


def fill(pusher: Pusher, events: int) -> None:
    """Publish the events, and see that they are there."""
    pusher.publish(stamped(number) for number in range(events))
    resume(pusher, 1, events)


def resume(pusher: Pusher, clients: int, events: int) -> Figures:
    """A crowd that asks for everything."""
    with Crowd(pusher.door(since="0"), clients, each=events, seconds=PATIENCE_S) as crowd:
        crowd.standing()
        return crowd.figures()


def main() -> int:
    """Print the table; 0 if everybody got everything."""
    quick = "--quick" in sys.argv
    clients, events, repeats = (20, 50, 1) if quick else (CLIENTS, EVENTS, REPEATS)
    with ExitStack() as stack:
        node, cluster = stack.enter_context(servers())
        contenders: list[Pusher] = [
            stack.enter_context(closing(Msgd(node, cluster))),
            stack.enter_context(closing(Nchan())),
        ]
        runs: dict[str, list[Figures]] = {pusher.name: [] for pusher in contenders}
        for pusher in contenders:
            fill(pusher, events)
        for _ in range(repeats):
            for pusher in contenders:
                runs[pusher.name].append(resume(pusher, clients, events))
    whole = True
    print(f"{clients:,} WebSockets resume {events:,} events each: medians of {repeats}")
    print(f"{'':<8} {'all, s':>8} {'events/s':>10} {'one: p50 s':>11} {'p99 s':>8}")
    for name, several in runs.items():
        whole &= all(figures.whole for figures in several)
        total = statistics.median(figures.complete_s for figures in several)
        p50 = statistics.median(figures.complete_p50_ms for figures in several) / 1000
        p99 = statistics.median(figures.complete_p99_ms for figures in several) / 1000
        said = next((f"  NOT WHOLE: {figures}" for figures in several if not figures.whole), "")
        print(f"{name:<8} {total:>8.2f} {several[-1].deliveries / total:>10,.0f} {p50:>11.2f} {p99:>8.2f}{said}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
