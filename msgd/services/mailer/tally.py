"""How many recipients of a stretch are in each state, as it is shown while it is mailed to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgd.services.mailer.ledger import OPEN, RowState


class Tally:
    """The counts, kept as they change."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = Counter(counts)

    def move(self, before: str, after: RowState) -> None:
        """One recipient has ended an attempt."""
        self._counts[before] -= 1
        self._counts[after.value] += 1

    @property
    def progress(self) -> dict[str, Any]:
        """The fields of the job's progress."""
        left = sum(self._counts[state.value] for state in OPEN)
        total = self._counts.total()
        told = {state: count for state, count in self._counts.items() if count}
        return {"done": total - left, "total": total, "states": told}
