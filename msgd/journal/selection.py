"""Which topics a list of patterns names, and how to find them: exact names, a range of an index, or all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, false, or_

from msgd.messages.topics import check_pattern, is_pattern, matches

EVERYTHING: Final = "#"


class Selection(Struct, frozen=True):
    """The topics that a reader wants."""

    names: frozenset[str]
    patterns: tuple[str, ...]  # with wildcards
    everything: bool

    def matches(self, topic: str) -> bool:
        """Whether ``topic`` is one of them."""
        return self.everything or topic in self.names or any(matches(pattern, topic) for pattern in self.patterns)

    def among(self, name: ColumnElement[Any]) -> ColumnElement[bool]:
        """A condition on the names of topics, which an index serves; it lets pass a few too many."""
        ranges = [_in_range(name, pattern) for pattern in self.patterns]
        return or_(false(), *([name.in_(sorted(self.names))] if self.names else []), *ranges)

    def remembering(self) -> Callable[[int, str], bool]:
        """:meth:`matches` for many events of few topics: each topic, known by its id, is looked at once."""
        seen: dict[int, bool] = {}

        def wanted(topic_id: int, name: str) -> bool:
            found = seen.get(topic_id)
            if found is None:
                found = seen[topic_id] = self.matches(name)
            return found

        return wanted


def selection(patterns: Sequence[str]) -> Selection:
    """What ``patterns`` name; raises InvalidTopic."""
    for pattern in patterns:
        check_pattern(pattern)
    wild = tuple(dict.fromkeys(pattern for pattern in patterns if is_pattern(pattern)))
    return Selection(
        frozenset(pattern for pattern in patterns if not is_pattern(pattern)),
        wild,
        EVERYTHING in wild,
    )


def prefix(pattern: str) -> str:
    """What every topic that ``pattern`` names begins with: ``a.b.*`` gives ``a.b.``, ``a.b.#`` also names ``a.b``."""
    words: list[str] = []
    for word in pattern.split("."):
        if word == "*":
            return "".join(f"{one}." for one in words)
        if word == "#":
            break
        words.append(word)
    return ".".join(words)


def likeness(pattern: str) -> str:
    """A LIKE pattern for topics, with ``\\`` as its escape: it lets pass all that ``pattern`` names, and a few more."""
    parts: list[str] = []
    for word in pattern.split("."):
        if word == "#":
            # It may stand for no word at all, and then there is one dot less.
            if parts and parts[-1] == ".":
                parts.pop()
            parts.append("%")
        else:
            parts += ["%" if word == "*" else word.replace("_", r"\_")]
            parts.append(".")
    if parts[-1] == ".":
        parts.pop()
    return "".join(parts)


def _in_range(name: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    begin = prefix(pattern)
    if begin:
        return (name >= begin) & (name < begin[:-1] + chr(ord(begin[-1]) + 1))
    return name.like(likeness(pattern), escape="\\")
