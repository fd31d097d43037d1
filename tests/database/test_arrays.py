"""Arrays for PostgreSQL are read back as what was put into them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format
from twisted.trial.unittest import SynchronousTestCase

from msgd.database.arrays import array_of, array_of_numbers, array_of_texts

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
AWKWARD = st.sampled_from(["", '"', "\\", '","', "NULL", "{}", 'a","b', "a b", "a,b", "\\\\", "\n"])
TEXTS_OID = 1009  # of text[]
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)


def read(array: str) -> list[Any]:
    """The elements of an array of texts, as psycopg reads what a server sends."""
    found: list[Any] = Transformer().get_loader(TEXTS_OID, Format.TEXT).load(array.encode())
    return found


class ArraysTest(SynchronousTestCase):
    """What stands in the array."""

    @given(st.lists(TEXTS | AWKWARD))
    def test_texts(self, values: list[str]) -> None:
        """Texts come back as they were, with whatever characters; none make the empty array."""
        self.assertEqual(read(array_of_texts(values)), values)

    @given(st.lists(NUMBERS))
    def test_numbers(self, values: list[int]) -> None:
        """Numbers come back as their digits."""
        self.assertEqual(read(array_of_numbers(values)), [str(value) for value in values])

    @given(st.lists(st.none() | TEXTS | AWKWARD))
    def test_missing_texts(self, values: list[str | None]) -> None:
        """What is missing comes back as None, and the word NULL as that word."""
        self.assertEqual(read(array_of(values)), values)

    def test_missing_others(self) -> None:
        """Numbers and truth values may stand beside missing ones."""
        self.assertEqual(array_of([1, None, -5]), "{1,NULL,-5}")
        self.assertEqual(array_of([True, False, None]), "{true,false,NULL}")
