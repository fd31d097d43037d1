"""The same bytes to many sockets: in a loop in C where it was built, else in one in Python, which does the same.

``_wave.c`` is optional: ``pip install`` builds it where there is a compiler and Python's headers, and goes on without
where not.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from typing import Final

SendEach = Callable[["array[int]", bytes], Sequence[tuple[int, int]]]
"""Offers ``data`` to each of these non-blocking sockets (an array of C ints), which stay open meanwhile. Returns those
that have not taken all of it: their place in the array, and how many bytes they have taken, or minus their errno."""


def send_in_python(fds: array[int], data: bytes) -> Sequence[tuple[int, int]]:
    """A :data:`SendEach` that needs no compiler."""
    rest = []
    for place, fd in enumerate(fds):
        try:
            taken = os.write(fd, data)
        except OSError as error:
            taken = -(error.errno or 1)
        if taken < len(data):
            rest.append((place, taken))
    return rest


def _fastest() -> SendEach:
    try:
        from msgd.notifier._wave import send
    except ImportError:
        return send_in_python
    return send


send_each: Final = _fastest()
IN_C: Final = send_each is not send_in_python
"""Whether the loop is the one in C."""
