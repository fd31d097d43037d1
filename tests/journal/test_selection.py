"""Which topics a pattern selects, in SQL and after it."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidTopic
from msgd.journal import tables
from msgd.journal.selection import likeness, prefix, selection
from msgd.messages.topics import matches

words = st.sampled_from(["a", "b", "ab", "A", "a_", "ax", "-"])
topics = st.lists(words, min_size=1, max_size=4).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=4).map(".".join)


class SelectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = sqlite3.connect(":memory:")
        self.addCleanup(self.database.close)

    @given(st.lists(patterns, max_size=3), topics)
    def test_condition_lets_pass_what_matches(self, asked: list[str], topic: str) -> None:
        """What a pattern names passes the condition in SQL; what no pattern names is refused in the end."""
        wanted = selection(asked)
        named = any(matches(pattern, topic) for pattern in asked)
        self.assertEqual(wanted.matches(topic), named)
        self.assertEqual(wanted.remembering()(1, topic), named)
        condition = wanted.among(tables.topics.c.name).compile(
            dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
        )
        statement = f"SELECT {condition} FROM (SELECT ? AS name) AS journal_topics"
        (passes,) = self.database.execute(statement, (topic,)).fetchone()
        if named:
            self.assertEqual(passes, 1, statement)

    def test_prefix(self) -> None:
        """A ``#`` may stand for no word, so the dot before it is not part of the prefix."""
        found = {pattern: prefix(pattern) for pattern in ("a.b.*", "a.b.#", "*.a", "#", "a", "a.*.b.*")}
        self.assertEqual(found, {"a.b.*": "a.b.", "a.b.#": "a.b", "*.a": "", "#": "", "a": "a", "a.*.b.*": "a."})

    def test_likeness(self) -> None:
        """Words stand for themselves, the underscore too."""
        self.assertEqual(likeness("*.a_b"), r"%.a\_b")
        self.assertEqual(likeness("#.b"), "%b")
        self.assertEqual(likeness("*.#.b"), "%%b")

    def test_invalid(self) -> None:
        """What is no pattern is refused."""
        with self.assertRaises(InvalidTopic):
            selection(["a", "b c"])
