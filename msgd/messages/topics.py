"""Topic names and patterns, with AMQP's meaning: ``*`` stands for one word, ``#`` for any number of words, also none.

Source: AMQP 0-9-1 §3.1.3.3 (the topic exchange type).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from msgd.errors import InvalidTopic
from msgd.messages.limits import TOPIC_BYTES

BUCKETS: Final = 256
"""Live messages are routed by bucket: 10,000 exact bindings take a broker seconds at every reconnect."""

_WORD: Final = "[A-Za-z0-9_-]+"
_TOPIC: Final = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_PATTERN: Final = re.compile(rf"(?:{_WORD}|\*|\#)(?:\.(?:{_WORD}|\*|\#))*")
_NOT_IN_WORD: Final = re.compile(rb"[^A-Za-z0-9-]")


def check_topic(text: str) -> str:
    """Return ``text`` if it is a topic, else raise :class:`~msgd.errors.InvalidTopic`."""
    if len(text) > TOPIC_BYTES:
        raise InvalidTopic(f"a topic has at most {TOPIC_BYTES} characters; this one has {len(text)}", where="topic")
    if not _TOPIC.fullmatch(text):
        raise InvalidTopic(
            f"{text!r} is not a topic: words of letters, digits, '_' and '-', joined by dots, such as room.kitchen",
            where="topic",
        )
    return text


def check_pattern(text: str) -> str:
    """Return ``text`` if it is a topic or a pattern, else raise :class:`~msgd.errors.InvalidTopic`."""
    if len(text) > TOPIC_BYTES:
        raise InvalidTopic(f"a pattern has at most {TOPIC_BYTES} characters; this one has {len(text)}", where="topic")
    if not _PATTERN.fullmatch(text):
        raise InvalidTopic(
            f"{text!r} is neither a topic nor a pattern: words of letters, digits, '_' and '-', or '*' for one word, "
            "or '#' for any, joined by dots, such as app.invoice.*",
            where="topic",
        )
    return text


def is_word(text: str) -> bool:
    """Whether ``text`` can stand as one word of a topic (every job id must)."""
    return len(text) <= TOPIC_BYTES and re.fullmatch(_WORD, text) is not None


def is_pattern(text: str) -> bool:
    """Whether ``text`` has a wildcard, and so names many topics."""
    return "*" in text or "#" in text


def bucket(topic: str) -> int:
    """The live bucket of a topic: ``crc32(topic) % 256``."""
    return zlib.crc32(topic.encode()) % BUCKETS


def job_topic(job: str) -> str:
    """The topic on which a job's events happen."""
    return f"job.{job}"


def job_of(pattern: str) -> str | None:
    """The job on whose topic alone events of ``pattern`` happen; None for what is not one job's topic."""
    kind, _, job = pattern.partition(".")
    return job if kind == "job" and job and "." not in job and job not in ("*", "#") else None


def user_topic(sub: str) -> str:
    """The topic of one principal; ``sub`` may hold any characters, see :func:`escape_word`."""
    return f"user.{escape_word(sub)}"


def escape_word(text: str) -> str:
    """Any non-empty text as one topic word, reversibly: what a word cannot hold, and ``_``, becomes ``_xx`` in hex."""
    if not text:
        raise InvalidTopic("an empty name cannot be a topic word", where="topic")
    return _NOT_IN_WORD.sub(lambda found: b"_%02x" % found.group()[0], text.encode()).decode()


@lru_cache(maxsize=4096)
def _expression(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression over ``topic + '.'``, in which every word ends with a dot.

    What stands between two ``#`` is taken where it first fits, for good (an atomic group): a later place could only
    leave less for the rest. Without that a pattern with many ``#`` would try all places, which takes for ever.
    """
    runs: list[list[str]] = [[]]
    for word in pattern.split("."):
        if word == "#":
            runs.append([])
        else:
            runs[-1].append(r"[^.]+\." if word == "*" else re.escape(word) + r"\.")
    first, *others = ("".join(run) for run in runs)
    if not others:
        return re.compile(first)
    *middle, last = others
    return re.compile(first + "".join(rf"(?>(?:[^.]+\.)*?{run})" for run in middle if run) + r"(?:[^.]+\.)*" + last)


def matches(pattern: str, topic: str) -> bool:
    """Whether ``topic`` is one that ``pattern`` names."""
    if pattern == topic:
        return True
    return is_pattern(pattern) and _expression(pattern).fullmatch(topic + ".") is not None


@lru_cache(maxsize=4096)
def covers(outer: str, inner: str) -> bool:
    """Whether every topic that ``inner`` names is named by ``outer`` too: how a grant meets a subscription.

    ``inner`` may be anybody's: the time it takes grows with its length only. ``outer`` is from a token we trust.
    """
    outer_words, inner_words = outer.split("."), inner.split(".")
    # Walk every single way in which inner can be spelt, beside all places where outer may be then; a fresh word stands
    # for all that neither has.
    alphabet = {word for word in outer_words + inner_words if word not in "*#"} | {""}
    start = _closure(outer_words, {0})
    todo = [(start, at) for at in _closure(inner_words, {0})]
    seen = set(todo)
    while todo:
        outer_at, inner_at = todo.pop()
        if inner_at == len(inner_words):
            if len(outer_words) not in outer_at:
                return False
            continue
        word = inner_words[inner_at]
        for spelt in alphabet if word in ("*", "#") else (word,):
            reached = _advance(outer_words, outer_at, spelt)
            for after in _advance(inner_words, frozenset({inner_at}), spelt):
                if (reached, after) not in seen:
                    seen.add((reached, after))
                    todo.append((reached, after))
    return True


def _closure(words: list[str], positions: set[int]) -> frozenset[int]:
    """The positions reachable without reading a word: ``#`` may stand for none."""
    found = set(positions)
    for at in sorted(positions):
        while at < len(words) and words[at] == "#":
            at += 1
            found.add(at)
    return frozenset(found)


def _advance(words: list[str], positions: frozenset[int], word: str) -> frozenset[int]:
    """The positions after reading ``word``; an empty set means it cannot be read."""
    return _closure(words, set(_after(words, positions, word)))


def _after(words: list[str], positions: frozenset[int], word: str) -> Iterator[int]:
    for at in positions:
        if at < len(words):
            if words[at] == "#":
                yield at
            elif words[at] in ("*", word):
                yield at + 1
