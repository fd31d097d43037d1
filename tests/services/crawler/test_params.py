"""What a crawl may be asked to do, and how it is told what is wrong."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidParams
from msgd.messages import json
from msgd.services.crawler.params import CRAWL, CrawlParams


def decode(**params: Any) -> CrawlParams:
    return CRAWL.decode(json.encode(params))


class ParamsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A URL is enough; the rest has the defaults of the design."""
        params = decode(url="https://a.example")
        self.assertEqual(params.start.url, "https://a.example/")
        self.assertEqual(
            (params.depth, params.max_pages, params.max_seconds, params.delay, params.concurrency, params.sitemap),
            (5, 1000, None, "auto", 8, True),
        )

    def test_everything(self) -> None:
        """All params together."""
        match = [
            {"name": "price", "regex": r"€\d+"},
            {"css": "h1"},
            {"xpath": "//a/@href"},
            {"text": "tea", "attr": "alt"},
        ]
        params = decode(
            url="http://a.example/", match=match, depth=0, max_pages=1, max_seconds=0.5, allow=["/a"], deny=["/b"],
            delay=0, concurrency=64, sitemap=False,
        )  # fmt: skip
        self.assertEqual([one.name for one in params.criteria()], ["price", "h1", "//a/@href", "tea"])
        self.assertEqual([one.reads_text for one in params.criteria()], [True, False, False, False])

    def test_wrong(self) -> None:
        """Each mistake is told with its field and what is wrong with it."""
        url = "http://a.example/"
        for params, where, message in (
            ({}, "params", "url"),
            ({"url": ""}, "params.url", "length"),
            ({"url": "a.example/x"}, "params", "did you mean 'https://a.example/x'?"),
            ({"url": "ftp://a.example/"}, "params", "http://"),
            ({"url": "http://user:pw@a.example/"}, "params", "user"),
            ({"url": url, "match": [{"regex": "a"}, {"regex": "("}]}, "params.match[1]", "regex: '('"),
            ({"url": url, "match": [{"css": "a["}]}, "params.match[0]", "css: 'a['"),
            ({"url": url, "match": [{"xpath": "//["}]}, "params.match[0]", "xpath:"),
            ({"url": url, "match": [{"text": "  "}]}, "params.match[0]", "text:"),
            ({"url": url, "match": [{"text": "a", "css": "b"}]}, "params.match[0]", "text and css"),
            ({"url": url, "match": [{"name": "x"}]}, "params.match[0]", "exactly one"),
            ({"url": url, "match": [{"regexp": "x"}]}, "params.match[0]", "regexp"),
            ({"url": url, "match": {"regex": "x"}}, "params.match", "array"),
            ({"url": url, "depth": -1}, "params.depth", ">= 0"),
            ({"url": url, "max_pages": 0}, "params.max_pages", ">= 1"),
            ({"url": url, "max_pages": "10"}, "params.max_pages", "int"),
            ({"url": url, "max_seconds": 0}, "params.max_seconds", "> 0"),
            ({"url": url, "delay": -1}, "params.delay", ">= 0"),
            ({"url": url, "delay": "slow"}, "params.delay", "slow"),
            ({"url": url, "concurrency": 65}, "params.concurrency", "<= 64"),
            ({"url": url, "deny": ["/ok", "docs"]}, "params", "deny[1]: 'docs'"),
            ({"url": url, "colour": 1}, "params", "colour"),
        ):
            error = self.assertRaises(InvalidParams, decode, **params)
            self.assertEqual(error.where, where, params)
            self.assertIn(message, error.message)

    def test_schema(self) -> None:
        """The type can be announced with the schema of its params."""
        info = CRAWL.info()
        self.assertEqual((info.name, info.results), ("crawl", ("result",)))
        self.assertIn(b"max_pages", info.schema)
