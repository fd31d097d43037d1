"""Who listens to what: for an event's topic, one look tells all the groups of listeners that it is for. Pure.

Listeners of the same topics and patterns are one group: what is made for one of them (a list of events, their frames)
serves all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

from msgd.messages.topics import is_pattern, matches

REMEMBERED: Final = 10_000
"""Topics whose groups are remembered: patterns are matched once for each, and not once for each event."""


class Patterned(Protocol):
    """Anything that listens."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The topics and patterns that it listens to; they stay the same."""


L = TypeVar("L", bound=Patterned)


class Group(Generic[L]):
    """Listeners that are due the same events."""

    __slots__ = ("__weakref__", "listeners", "patterns")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns
        self.listeners: dict[L, None] = {}

    def names(self, topic: str) -> bool:
        """Whether events of ``topic`` are for them."""
        return any(matches(pattern, topic) if is_pattern(pattern) else pattern == topic for pattern in self.patterns)


class Audience(Generic[L]):
    """All listeners."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], Group[L]] = {}
        self._wild: dict[tuple[str, ...], Group[L]] = {}  # those of them with a wildcard
        self._plain: dict[str, dict[Group[L], None]] = {}  # the others, by topic
        self._found: dict[str, Sequence[Group[L]]] = {}

    def __iter__(self) -> Iterator[L]:
        return iter([listener for group in self._groups.values() for listener in group.listeners])

    @property
    def patterns(self) -> list[str]:
        """All topics and patterns that somebody listens to, each once."""
        return list(dict.fromkeys(pattern for patterns in self._groups for pattern in patterns))

    def add(self, listener: L) -> None:
        """Harmless if it is there already."""
        group = self._groups.get(listener.patterns)
        if group is None:
            group = self._groups[listener.patterns] = Group(listener.patterns)
            self._index(group)
        group.listeners[listener] = None

    def remove(self, listener: L) -> None:
        """Harmless if it was never added."""
        group = self._groups.get(listener.patterns)
        if group is not None:
            group.listeners.pop(listener, None)
            if not group.listeners:
                del self._groups[group.patterns]
                self._unindex(group)

    def of(self, topic: str) -> Sequence[Group[L]]:
        """The groups that an event of ``topic`` is for, each once."""
        found = self._found.get(topic)
        if found is None:
            wild = [group for group in self._wild.values() if group.names(topic)]
            found = self._found[topic] = (*self._plain.get(topic, ()), *wild)
            if len(self._found) > REMEMBERED:
                del self._found[next(iter(self._found))]
        return found

    def _index(self, group: Group[L]) -> None:
        if any(map(is_pattern, group.patterns)):
            self._wild[group.patterns] = group
            self._found.clear()
        else:
            for topic in group.patterns:
                self._plain.setdefault(topic, {})[group] = None
                self._found.pop(topic, None)

    def _unindex(self, group: Group[L]) -> None:
        if self._wild.pop(group.patterns, None) is not None:
            self._found.clear()
            return
        for topic in group.patterns:
            self._found.pop(topic, None)
            groups = self._plain.get(topic, {})
            groups.pop(group, None)
            if not groups:
                self._plain.pop(topic, None)
