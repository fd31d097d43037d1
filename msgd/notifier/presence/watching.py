"""Who wants to be told who is present, and when: at most once a second, and less often where that is much to tell."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct
from twisted.logger import Logger

from msgd.clock import Clock, DelayedCall
from msgd.notifier.presence.roster import MEMBERS_SHOWN, Roster

_log = Logger()

PACE_S: Final = 1.0
"""Between two tellings of one topic."""

NAMES_A_SECOND: Final = 1_000_000
"""Names told a second, over all watchers of a topic: in a room of 10,000 whose pages all watch, everybody is told every
10 s, some 20 MB/s of names that hardly anybody reads."""

FRESH: Final = 100
"""Up to so many members a view is made whenever it is asked for; of more, at most once in :data:`PACE_S`."""

PORTION: Final = 200
"""Watchers told in one go, some milliseconds."""


class View(Struct, frozen=True):
    """Who is present: the first of them in order, and how many there are."""

    topic: str
    members: Sequence[str]
    count: int


Watcher = Callable[[View, bytes], None]
"""Is told a view, and the same in the form that all watchers share."""


class Views:
    """What is to be seen of a roster, made no more often than somebody could notice."""

    def __init__(self, roster: Roster, clock: Clock) -> None:
        self._roster = roster
        self._clock = clock
        self._made: dict[str, tuple[float, View]] = {}
        self._changed: set[str] = set()

    def changed(self, topics: Iterable[str]) -> None:
        """The members of these topics are others."""
        for topic in topics:
            if topic in self._made:
                if self._roster.count(topic):
                    self._changed.add(topic)
                else:
                    self._changed.discard(topic)
                    del self._made[topic]  # nothing is kept of where nobody is

    def count(self, topic: str) -> int:
        """How many are present."""
        return self._roster.count(topic)

    def behind(self, topic: str) -> bool:
        """Whether :meth:`of` would give a view that is no longer true."""
        return topic in self._changed and not self._due(topic)

    def of(self, topic: str) -> View:
        """A view: of a large topic it may be a second old."""
        made = self._made.get(topic)
        return self.new(topic) if made is None or (topic in self._changed and self._due(topic)) else made[1]

    def _due(self, topic: str) -> bool:
        """Whether a view that is no longer true is to be made anew."""
        passed_s = self._clock.seconds() - self._made[topic][0]
        return self._roster.count(topic) <= FRESH or not 0 <= passed_s < PACE_S

    def new(self, topic: str) -> View:
        """A view as of now."""
        made = self._made.get(topic)
        if made is not None and topic not in self._changed:
            return made[1]
        self._changed.discard(topic)
        view = View(topic, heapq.nsmallest(MEMBERS_SHOWN, self._roster.members(topic)), self._roster.count(topic))
        if view.count:
            self._made[topic] = (self._clock.seconds(), view)
        return view


class _Watched:
    """A topic that is watched."""

    def __init__(self) -> None:
        self.watchers: dict[Watcher, None] = {}
        self.told_s = float("-inf")
        self.stale = False  # the members are others than were told last
        self.due: DelayedCall | None = None


class Watching:
    """All watchers of this notifier."""

    def __init__(self, views: Views, clock: Any, encode: Callable[[View], bytes]) -> None:
        """``encode``: the form that watchers share."""
        self._views = views
        self._clock = clock
        self._encode = encode
        self._watched: dict[str, _Watched] = {}

    def add(self, topic: str, watcher: Watcher) -> None:
        """Tell of changes from now on."""
        self._watched.setdefault(topic, _Watched()).watchers[watcher] = None

    def remove(self, topic: str, watcher: Watcher) -> None:
        """Tell no more; harmless if it was never added."""
        watched = self._watched.get(topic)
        if watched is None:
            return
        watched.watchers.pop(watcher, None)
        if not watched.watchers:
            _cancel(watched.due)
            del self._watched[topic]

    def stop(self) -> None:
        """Tell nobody any more."""
        for watched in self._watched.values():
            _cancel(watched.due)
        self._watched.clear()

    def changed(self, topics: Iterable[str]) -> None:
        """The members of these topics are others."""
        for topic in topics:
            watched = self._watched.get(topic)
            if watched is None:
                continue
            watched.stale = True
            if watched.due is None:
                self._tell_later(topic, watched)

    def _tell_later(self, topic: str, watched: _Watched) -> None:
        names = len(watched.watchers) * min(MEMBERS_SHOWN, self._views.count(topic))
        pace_s = max(PACE_S, names / NAMES_A_SECOND)
        # At most that: a clock that was set back silences nobody for longer.
        wait_s = min(max(0.0, watched.told_s + pace_s - self._clock.seconds()), pace_s)
        watched.due = self._clock.callLater(wait_s, self._tell, topic, watched)

    def _tell(self, topic: str, watched: _Watched) -> None:
        watched.told_s = self._clock.seconds()
        watched.stale = False
        view = self._views.new(topic)
        self._tell_portion(list(watched.watchers), watched, view, self._encode(view))

    def _tell_portion(self, watchers: Sequence[Watcher], watched: _Watched, view: View, encoded: bytes) -> None:
        for watcher in watchers[:PORTION]:
            if watcher in watched.watchers:
                try:
                    watcher(view, encoded)
                except Exception:  # one watcher's mistake must not keep it from the others
                    _log.failure("a watcher of {topic} could not be told who is present", topic=view.topic)
        left = watchers[PORTION:]
        if left:
            watched.due = self._clock.callLater(0, self._tell_portion, left, watched, view, encoded)
            return
        watched.due = None
        if watched.stale and watched.watchers:
            self._tell_later(view.topic, watched)


def _cancel(call: DelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
