"""Topics and patterns: matching and covering against definitions too slow for use."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.topics import covers, job_of, matches

WORDS = ("a", "b", "c")

topics = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(".".join)
patterns = st.lists(st.sampled_from(("a", "b", "*", "#")), min_size=1, max_size=5).map(".".join)


def plainly(pattern: list[str], topic: list[str]) -> bool:
    """The definition of AMQP 0-9-1 §3.1.3.3, word by word."""
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return plainly(pattern[1:], topic) or (bool(topic) and plainly(pattern, topic[1:]))
    return bool(topic) and pattern[0] in ("*", topic[0]) and plainly(pattern[1:], topic[1:])


SHORT = tuple(".".join(words) for size in range(1, 6) for words in product(WORDS, repeat=size))
"""All topics up to a length at which patterns of at most three words can be told apart."""


class MatchingTest(SynchronousTestCase):
    """``matches``."""

    @given(patterns, topics)
    def test_definition(self, pattern: str, topic: str) -> None:
        """It says what the specification says."""
        self.assertEqual(matches(pattern, topic), plainly(pattern.split("."), topic.split(".")))

    def test_hostile_pattern(self) -> None:
        """A pattern made to be slow is not: this would run for hours if every place of every '#' were tried."""
        self.assertFalse(matches(".".join(["#.a"] * 50) + ".z", ".".join(["a"] * 100)))


class CoveringTest(SynchronousTestCase):
    """``covers``."""

    @given(
        st.lists(st.sampled_from(("a", "b", "*", "#")), min_size=1, max_size=3).map(".".join),
        st.lists(st.sampled_from(("a", "b", "*", "#")), min_size=1, max_size=3).map(".".join),
    )
    def test_definition(self, outer: str, inner: str) -> None:
        """A pattern covers another if no topic of the other's is outside it."""
        every = all(matches(outer, topic) for topic in SHORT if matches(inner, topic))
        if every:
            # Also of the empty sequence of words, which no topic is: '#' names it, '#.#' too.
            every = not plainly(inner.split("."), []) or plainly(outer.split("."), [])
        self.assertEqual(covers(outer, inner), every)

    def test_hostile_pattern(self) -> None:
        """A subscription made to be slow to check is not."""
        self.assertFalse(covers("#.b.#", "#.a" + ".*" * 90))
        self.assertTrue(covers("room.#", "room.#.a" + ".*" * 90))


class JobOfTest(SynchronousTestCase):
    """``job_of``."""

    def test_one_jobs_topic(self) -> None:
        """A job's own topic names it; patterns, and what only looks like one, name none."""
        self.assertEqual(job_of("job.01kab"), "01kab")
        for other in ("job", "job.*", "job.#", "job.a.b", "jobs.a", "room.a", "#"):
            self.assertIsNone(job_of(other), other)
