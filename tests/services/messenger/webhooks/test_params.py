"""What a ``webhook`` job may be asked to do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidParams
from msgd.messages import json
from msgd.services.messenger.webhooks.params import WEBHOOK, checked_url


class ParamsTest(SynchronousTestCase):
    """``params``."""

    def test_urls(self) -> None:
        """Every URL that can be dialled is, in ASCII."""
        for given_, dialled in (
            ("https://example.com/hook?a=b#there", "https://example.com/hook?a=b"),
            (" http://EXAMPLE.com ", "http://example.com/"),
            ("http://bücher.example/ä", "http://xn--bcher-kva.example/%C3%A4"),
            ("http://my_service:8000/x", "http://my_service:8000/x"),
            ("http://[::1]:1/", "http://[::1]:1/"),
            ("http://127.1/", "http://127.1/"),
        ):
            self.assertEqual(checked_url(given_).rstrip("/"), dialled.rstrip("/"))

    def test_refused_urls(self) -> None:
        """What is no URL, or names no host, or hides a password, is refused."""
        for text in (
            "", "example.com", "ftp://example.com/", "http:///x", "http://me:secret@example.com/", "http://a:99999/",
            "http://a b/", "http://a\r\nX-Evil: 1/", "javascript:alert(1)", "http://[::1", "http://-\ud800-/",
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=text):
                checked_url(text)

    @given(st.text(max_size=60))
    @settings(max_examples=300, deadline=None)
    def test_any_url(self, text: str) -> None:
        """Whatever is given is refused, or becomes printable ASCII."""
        for url in (text, f"http://{text}/", f"http://a/{text}"):
            try:
                found = checked_url(url)
            except ValueError:
                continue
            self.assertTrue(found.isascii() and found.isprintable() and " " not in found, found)

    def test_form(self) -> None:
        """Either an endpoint or a URL; an event's name is words and dots; what is wrong is named."""
        for params, words in (
            ({"event": "e"}, "either an endpoint or a url"),
            ({"event": "e", "url": "http://a/", "endpoint": "b"}, "either an endpoint or a url"),
            ({"url": "http://a/", "event": "no spaces"}, "matching"),
            ({"url": "http://a/", "event": "e", "id": "a.b"}, "matching"),
            ({"url": "http://a/", "event": "e", "id": "a\n"}, "matching"),
            ({"url": "http://a/", "event": "e\n"}, "matching"),
            ({"endpoint": "a\0", "event": "e"}, "matching"),
            ({"url": "http://a/", "event": "e", "time": "yesterday"}, "RFC 3339"),
            ({"url": "http://a/", "event": "e", "extra": 1}, "extra"),
            ({"url": "gopher://a/", "event": "e"}, "https://"),
            ({"url": "http://a/"}, "event"),
        ):
            error = self.assertRaises(InvalidParams, WEBHOOK.decode, json.encode(params))
            self.assertIn(words, error.message)
        self.assertEqual(
            bytes(WEBHOOK.decode(b'{"url": "http://a/", "event": "a.b", "data": [1, 2.50]}').data), b"[1, 2.50]"
        )
