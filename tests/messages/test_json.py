"""JSON that does not fit its form."""

from __future__ import annotations

from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidInput
from msgd.messages import json


class Inner(Struct, forbid_unknown_fields=True):
    text: str


class Outer(Struct):
    inner: Inner


class DecodeTests(SynchronousTestCase):
    def test_words(self) -> None:
        """A field that is missing or unknown is told in plain words, with its place."""
        for body, said, where in (
            (b"{}", "the field `inner` is missing", "body"),
            (b'{"inner": {}}', "the field `text` is missing", "body.inner"),
            (b'{"inner": {"text": "x", "tex": 1}}', "the field `tex` is unknown", "body.inner"),
            (b'{"inner": {"text": 1}}', "Expected `str`, got `int`", "body.inner.text"),
        ):
            with self.assertRaises(InvalidInput) as caught:
                json.decode(body, Outer)
            self.assertEqual((caught.exception.message, caught.exception.where), (said, where))
