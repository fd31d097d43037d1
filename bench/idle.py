"""Memory of those who wait: ``python -m bench.idle [--quick]``, KB a connection beside nchan and Tornado.

10,000 WebSockets are opened, subscribed to one topic, and left alone. Printed: by how much the server's processes have
grown, by the connections; memory that processes share is counted once, the kernel's own for sockets not at all. Who the
contenders are, and how they are set, is told in ``bench/_pushers.py``. ``--quick`` is a smoke test, whose figures mean
nothing.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from typing import Final

from bench._crowd import Crowd, stamped
from bench._pushers import Grows, Msgd, Nchan, Tornado, resident_kb, servers

CLIENTS: Final = 10_000
WARM_UP: Final = 50
SETTLE_S: Final = 2.0
"""For what a handshake leaves to be done later."""

PATIENCE_S: Final = 100.0


def idle(server: Grows, clients: int) -> tuple[float, float]:
    """KB a connection, and handshakes a second."""
    with Crowd(server.door(), WARM_UP, each=1) as crowd:  # what is made once, at the first
        crowd.standing()
        server.publish(iter([stamped(0)]))
        crowd.figures()
    time.sleep(SETTLE_S)
    before = resident_kb(server.processes())
    with Crowd(server.door(), clients, seconds=PATIENCE_S) as crowd:
        standing = crowd.standing()
        time.sleep(SETTLE_S)
        after = resident_kb(server.processes())
        figures = crowd.end()
    if figures.closed:
        raise RuntimeError(f"{server.name} closed {figures.closed} connections")
    return (after - before) / clients, clients / standing.handshake_s


def main() -> None:
    """Print the table."""
    clients = 200 if "--quick" in sys.argv else CLIENTS
    with ExitStack() as stack:
        node, cluster = stack.enter_context(servers())
        contenders: list[Grows] = [
            stack.enter_context(closing(Msgd(node, cluster))),
            stack.enter_context(closing(Nchan())),
            stack.enter_context(closing(Tornado(node))),
        ]
        found = {server.name: idle(server, clients) for server in contenders}
    ours = found["msgd"][0]
    print(f"{clients:,} idle WebSockets, each subscribed to one topic")
    print(f"{'':<20} {'KB each':>8} {'ours to it':>11} {'handshakes/s':>13}")
    for name, (each_kb, rate) in found.items():
        print(f"{name:<20} {each_kb:>8.1f} {ours / each_kb:>10.2f}x {rate:>13,.0f}")


if __name__ == "__main__":
    main()
