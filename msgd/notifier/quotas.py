"""How much one principal, or one address, may ask for (pure): rates as token buckets, and counts of what is held.

Memory is bounded: a bucket that is full again is no different from none, so it is dropped, and so is a count of zero.
"""

from __future__ import annotations

from typing import Final

from msgd.errors import RateLimited

MOST: Final = 20_000
"""Buckets kept of one kind. Beyond, all but the emptier half are dropped: whoever is near their limit stays known."""


class Rate:
    """Token buckets, one for each key: ``rate`` a second in the long run, ``burst`` at once."""

    def __init__(self, rate: float, burst: float, *, most: int = MOST) -> None:
        """``rate`` 0: no limit."""
        self._rate = rate
        self._burst = burst
        self._most = most
        self._levels: dict[str, tuple[float, float]] = {}  # what was left, when
        self._swept_s = 0.0

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._levels)

    def take(self, key: str, now_s: float, amount: float = 1.0) -> float:
        """0 if ``key`` may do this now, else in how many seconds.

        What is more than a burst may be done with a full bucket, and is paid off afterwards.
        """
        if self._rate <= 0:
            return 0.0
        left = self._left(key, now_s)
        missing = min(amount, self._burst) - left
        if missing > 0:
            return missing / self._rate
        self._levels[key] = (left - amount, now_s)
        self._tidy(now_s)
        return 0.0

    def is_spent(self, key: str, now_s: float) -> float:
        """0 if ``key`` may do something now, else in how many seconds; takes nothing."""
        return max(0.0, 1.0 - self._left(key, now_s)) / self._rate if self._rate > 0 else 0.0

    def _left(self, key: str, now_s: float) -> float:
        level, then_s = self._levels.get(key, (self._burst, now_s))
        # A clock that was set back gives nothing, and takes nothing.
        return min(self._burst, level + max(0.0, now_s - then_s) * self._rate)

    def _tidy(self, now_s: float) -> None:
        """Drop buckets that are full again: once in the time in which all fill up, or when there are too many."""
        crowded = len(self._levels) > self._most
        if not crowded and 0 <= now_s - self._swept_s < self._burst / self._rate:
            return
        self._swept_s = now_s
        lefts = {key: self._left(key, now_s) for key in self._levels}
        kept = [key for key, left in lefts.items() if left < self._burst]
        if len(kept) > self._most:
            kept = sorted(kept, key=lefts.__getitem__)[: self._most // 2]
        self._levels = {key: self._levels[key] for key in kept}


class Held:
    """How many of something each key has at present; ``most``: 0 for no limit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many keys have some."""
        return len(self._counts)

    def take(self, key: str) -> bool:
        """Whether ``key`` may have, and has now, one more."""
        count = self._counts.get(key, 0)
        if 0 < self.most <= count:
            return False
        self._counts[key] = count + 1
        return True

    def give_back(self, key: str, count: int = 1) -> None:
        """So many of what was taken are over."""
        left = self._counts.get(key, 0) - count
        if left > 0:
            self._counts[key] = left
        else:
            self._counts.pop(key, None)


def refuse(seconds: float, what: str) -> None:
    """Raises RateLimited unless ``seconds``, as :meth:`Rate.take` says it, is 0."""
    if seconds > 0:
        raise RateLimited(f"too many {what}: wait {_rounded(seconds):g} s", retry_after=_rounded(seconds))


def _rounded(seconds: float) -> float:
    """Upwards to a tenth: whoever comes then is let in."""
    return -(-seconds * 10 // 1) / 10
