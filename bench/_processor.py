"""Processor time of a benchmark and of all that it has started: what a busy machine disturbs least."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")


def processor_s() -> float:
    """Processor seconds of this process and all its descendants that run, and of those they have waited for."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    total, todo = 0.0, [os.getpid()]
    while todo:
        one = todo.pop()
        total += used.get(one, 0.0)
        todo += [pid for pid, parent in parents.items() if parent == one]
    return total
