"""Loopback ports for servers of the tests, of which no two processes are told the same one.

A server that is told its port by a file or on its command line takes it later than it was chosen, and again after each
restart. Meanwhile nothing else may have it: neither an outgoing connection, to which the kernel gives ports of its
ephemeral range, nor a server of another test process.
"""

from __future__ import annotations

import itertools
import secrets
import socket
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

FIRST: Final = 10_000
END: Final = 32_000
"""Below the kernel's ephemeral range, which begins at 32768 on Linux."""

BLOCK: Final = 1_000
"""Ports of one process. The whole suite takes a few hundred, so that none is given twice."""


def free_port() -> int:
    """A port on which nobody listens, and which is told only once."""
    return next(_ports())


@lru_cache(maxsize=1)
def _ports() -> Iterator[int]:
    """The free ports of a block that is this process's own."""
    guard, first = _claim()
    return (port for port in itertools.cycle(range(first + 1, first + BLOCK)) if guard and _is_free(port))


def _claim() -> tuple[socket.socket, int]:
    """A block, held by its first port until the process ends: the kernel gives it back, however that ends."""
    blocks = list(range(FIRST, END, BLOCK))
    secrets.SystemRandom().shuffle(blocks)  # where another's server stands in a block's first port, the next will do
    for first in blocks:
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", first))
        except OSError:
            guard.close()
        else:
            return guard, first
    raise AssertionError(f"all of the ports {FIRST}, {FIRST + BLOCK}, … {blocks[-1]} are taken by others")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
