"""The same bytes to many sockets: in a loop in C where it was built, else in one in Python, which does the same.

``_wave.c`` is optional: ``pip install`` builds it where there is a compiler and Python's headers, and goes on without
where not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

SendEach = Callable[[list[int], bytes], Sequence[int]]
"""Offers ``data`` to each of these non-blocking sockets, which stay open meanwhile; returns, for each, how many bytes
it has taken, or minus its errno."""


def send_in_python(fds: list[int], data: bytes) -> Sequence[int]:
    """A :data:`SendEach` that needs no compiler."""
    taken = []
    for fd in fds:
        try:
            taken.append(os.write(fd, data))
        except OSError as error:
            taken.append(-(error.errno or 1))
    return taken


def _fastest() -> SendEach:
    try:
        from msgd.notifier._wave import send
    except ImportError:
        return send_in_python
    return send


send_each: Final = _fastest()
IN_C: Final = send_each is not send_in_python
"""Whether the loop is the one in C."""
