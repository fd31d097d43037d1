"""Python's garbage collector, set for a process that runs for months and makes thousands of objects a second."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)
"""Objects made and not freed before the youngest generation is looked through, and how many times each generation is
before the next older one. A message in hand is some hundred objects that all live until it is done, and a busy worker
has hundreds in hand: at the default of 700 they are looked through over and over, a fifth of a worker's processor
time, at 10,000 still a tenth. Cycles are few, and wait a little longer: some 10 MB of them at most."""


def calm_collector() -> None:
    """Leave alone what was imported, which stays anyway, and look less often for cycles among the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
