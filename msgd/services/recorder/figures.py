"""What a recorder has done so far, and how far behind it is: for metrics and health."""

from __future__ import annotations

from msgspec import Struct


class Figures(Struct):
    """Counts since the process began, and the state of now."""

    batches: int = 0
    recorded: int = 0
    known: int = 0
    stale: int = 0
    transient: int = 0
    dead: int = 0
    replies: int = 0
    troubles: int = 0  # how often a batch could not be finished, and was begun anew
    takeovers: int = 0
    last_batch: int = 0  # events in the latest batch
    serving: bool = False  # whether this process holds the lease
    oldest_s: float | None = None  # when the oldest event in hand came, by the clock; None: nothing waits

    def lag_s(self, now_s: float) -> float:
        """For how long the oldest event in hand has waited to be stored, in seconds."""
        return 0.0 if self.oldest_s is None else max(0.0, now_s - self.oldest_s)
