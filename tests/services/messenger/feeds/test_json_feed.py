"""Entries out of JSON Feeds, whole and broken ones."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import PeerError
from msgd.messages.wire import parse_time
from msgd.services.messenger.feeds.json_feed import OBJECTS, is_json, parse
from msgd.services.messenger.feeds.parsing import DOCUMENT_BYTES, ENTRIES, Enclosure, Parsed

BASE = "https://news.example/feeds/all.json"
VERSION = "https://jsonfeed.org/version/1.1"

FEED: dict[str, Any] = {
    "version": VERSION,
    "title": "The News",
    "authors": [{"name": "The Staff"}],
    "items": [
        {
            "id": "2",
            "url": "/2",
            "title": "Second",
            "content_html": "<p>Hello <b>you</b>.</p><p>Bye<script>alert(1)</script></p>",
            "date_published": "2021-09-06T10:00:00.250+02:00",
            "date_modified": "2021-09-07T08:00:00Z",
            "authors": [{"name": "Ann"}, {"url": "x"}, {"name": "Bob"}],
            "attachments": [
                {"url": "https://news.example/2.mp3", "mime_type": "audio/mpeg", "size_in_bytes": 123},
                {"url": "javascript:alert(1)"},
            ],
        },
        {"id": 1, "external_url": "https://other.example/1", "content_text": "1 < 2",
         "date_published": "2021-09-05T10:00:00Z"},
    ],
}  # fmt: skip


def read(*items: Any, **more: Any) -> Parsed:
    return parse(msgspec.json.encode({"version": VERSION, "items": items, **more}), BASE)


class JsonFeedTests(SynchronousTestCase):
    """What is read, and what is refused."""

    def test_whole(self) -> None:
        """Texts without markup, whole links, UTC times, numbers as ids; the oldest first."""
        parsed = parse(msgspec.json.encode(FEED), BASE)
        self.assertEqual((parsed.title, parsed.problem), ("The News", ""))
        first, second = parsed.entries
        self.assertEqual((first.id, first.url, first.text), ("1", "https://other.example/1", "1 < 2"))
        self.assertEqual((first.title, first.authors, first.enclosures), ("", ("The Staff",), ()))
        self.assertEqual((second.id, second.url, second.title), ("2", "https://news.example/2", "Second"))
        self.assertEqual((second.text, second.authors), ("Hello you. Bye", ("Ann", "Bob")))
        self.assertEqual(second.published_ms, parse_time("2021-09-06T08:00:00.250Z"))
        self.assertEqual(second.updated_ms, parse_time("2021-09-07T08:00:00Z"))
        self.assertEqual(second.enclosures, (Enclosure("https://news.example/2.mp3", "audio/mpeg", 123),))

    def test_version_1(self) -> None:
        """Its single author, and a mark before the first brace."""
        document = {"version": "https://jsonfeed.org/version/1", "items": [{"id": "a", "author": {"name": "Ann"}}]}
        body = b"\xef\xbb\xbf\r\n " + msgspec.json.encode(document)
        self.assertTrue(is_json(body))
        self.assertEqual(parse(body, BASE).entries[0].authors, ("Ann",))

    def test_wrong_kinds(self) -> None:
        """Fields of a wrong kind are as if they were not there; an entry that says nothing is none; twice is once."""
        odd = {"id": ["x"], "title": 7, "url": {}, "summary": "Here", "authors": 3, "attachments": [1], "x": [[]]}
        parsed = read(odd, {}, {"title": None}, {"id": "b"}, {"id": "b"}, {"id": -1.5}, title=[1])
        self.assertEqual([one.id for one in parsed.entries][:2], ["-1.5", "b"])
        self.assertEqual((len(parsed.entries), parsed.title, parsed.entries[-1].text), (3, "", "Here"))
        self.assertEqual((parsed.entries[-1].authors, parsed.entries[-1].enclosures), ((), ()))

    def test_problems(self) -> None:
        """What is too much, or has an end, is told."""
        parsed = read(*({"id": str(number)} for number in range(ENTRIES + 1)), expired=True)
        self.assertEqual(len(parsed.entries), ENTRIES)
        self.assertIn(f"more than {ENTRIES} entries", parsed.problem)
        self.assertIn("nothing will be added", parsed.problem)

    def test_no_feed(self) -> None:
        """Other JSON, and what is none."""
        for body in (
            b"{}",
            b'{"version": "1.0", "items": []}',
            b'{"version": "https://jsonfeed.org/version/1.1"}',
            b'{"version": "https://jsonfeed.org/version/1.1", "items": {}}',
            b'{"version": "https://jsonfeed.org/version/1.1", "items": [1]}',
            b'{"version": "https://jsonfeed.org/version/1.1", "items": [{"id": "cut',
            b'{"version": "\xff", "items": []}',
            b'{"items":' + b"[" * 1_000_000,
        ):
            with self.assertRaises(PeerError):
                parse(body, BASE)

    def test_hostile(self) -> None:
        """Whatever is in five megabytes costs little: the interpreter is held meanwhile."""
        head = b'{"version": "' + VERSION.encode() + b'", "items": [{"id": 1, '
        room = DOCUMENT_BYTES - 1000
        for body in (
            head + b'"id": {}}' + b",{}" * (OBJECTS - 10) + b"]}",
            head + b'"x": [' + b"[]," * (room // 3) + b"0]}]}",
            head + b'"authors": [' + b"[]," * (room // 3) + b"0]}]}",
            head + b'"id": ' + b"7" * room + b"}]}",
            b'{"items":[' + b"{}," * (room // 3) + b"{}]}",
        ):
            began_s = time.process_time()
            try:
                parse(body, BASE)
            except PeerError:
                pass  # refused as well
            self.assertLess(time.process_time() - began_s, 1.0)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["id", "url", "title", "authors", "name", "date_published"]), inner)
            ),
            max_leaves=10,
        )
    )
    def test_anything(self, value: Any) -> None:
        """Any JSON in place of an entry is an entry, nothing, or refused."""
        try:
            parsed = read(value)
        except PeerError:
            return
        for entry in parsed.entries:
            self.assertTrue(entry.id)
            msgspec.json.encode(entry)
