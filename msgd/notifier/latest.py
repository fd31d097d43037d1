"""Progress is ordered too: it skips the journal, so receivers drop what is older than seen, or after the end."""

from __future__ import annotations

from typing import Final

from msgd.messages.events import ENDS
from msgd.messages.live import LiveEvent

TOPICS: Final = 10_000
"""Topics whose latest progress is remembered; the least recently seen is forgotten, and may show one stale value."""

_END: Final = 1 << 62


class Latest:
    """The latest (run, token, n) seen on each topic. Pure."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, int]] = {}

    def accepts(self, event: LiveEvent) -> bool:
        """Whether a transient event is news; those without numbers always are."""
        if event.run is None or event.token is None or event.n is None:
            return True
        place = (event.run, event.token, event.n)
        if place <= self._seen.get(event.topic, (0, 0, -1)):
            return False
        self._note(event.topic, place)
        return True

    def recorded(self, event: LiveEvent) -> None:
        """A recorded event has passed: after an end, no progress of that run counts."""
        if event.type in ENDS and event.run is not None:
            self._note(event.topic, max((event.run, event.token or _END, _END), self._seen.get(event.topic, (0, 0, 0))))

    def _note(self, topic: str, place: tuple[int, int, int]) -> None:
        self._seen.pop(topic, None)
        self._seen[topic] = place
        if len(self._seen) > TOPICS:
            del self._seen[next(iter(self._seen))]
