"""Sitemaps."""

from __future__ import annotations

import gzip
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler import sitemap
from msgd.services.crawler.sitemap import read_sitemap

NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"
URL = "https://a.example/sitemap.xml"


def urlset(*urls: str, namespace: str = f' xmlns="{NAMESPACE}"') -> bytes:
    entries = "".join(f"<url><loc>\n {url} </loc><lastmod>2026-01-01</lastmod></url>" for url in urls)
    return f'<?xml version="1.0" encoding="UTF-8"?><urlset{namespace}>{entries}</urlset>'.encode()


def pages(*chunks: bytes, coding: str = "") -> list[str]:
    return [page.url for page in read_sitemap(chunks, URL, content_encoding=coding).pages]


class SitemapTests(SynchronousTestCase):
    def test_pages(self) -> None:
        """The pages of a sitemap come in order, each once, absolute."""
        body = urlset("https://a.example/1", "https://a.example/2?x=1&amp;y=2", "https://a.example/1", "/3", "mailto:x")
        self.assertEqual(pages(body), ["https://a.example/1", "https://a.example/2?x=1&y=2", "https://a.example/3"])

    def test_index(self) -> None:
        """An index leads to sitemaps, not to pages."""
        body = f'<sitemapindex xmlns="{NAMESPACE}"><sitemap><loc>{URL}.1.gz</loc></sitemap></sitemapindex>'.encode()
        found = read_sitemap([body], URL)
        self.assertEqual(([one.url for one in found.sitemaps], found.pages), ([f"{URL}.1.gz"], ()))

    def test_other_locations(self) -> None:
        """Pictures and videos within an entry have locations that are no pages."""
        body = urlset().replace(
            b"</urlset>",
            b'<url><loc>https://a.example/1</loc><i:image xmlns:i="x"><i:loc>https://a.example/p</i:loc></i:image></url>'
            b"</urlset>",
        )
        self.assertEqual(pages(body), ["https://a.example/1"])

    def test_no_namespace(self) -> None:
        """The namespace may be missing."""
        self.assertEqual(pages(urlset("https://a.example/1", namespace="")), ["https://a.example/1"])

    def test_text(self) -> None:
        """A text file has one URL to a line."""
        body = "\N{BOM}https://a.example/1\r\n\nnonsense\nhttps://a.example/2".encode()
        self.assertEqual(pages(body[:10], body[10:]), ["https://a.example/1", "https://a.example/2"])

    def test_gzip(self) -> None:
        """A sitemap may be a gzip file, and be coded for the way as well."""
        body = gzip.compress(urlset("https://a.example/1"))
        self.assertEqual(pages(body), ["https://a.example/1"])
        self.assertEqual(pages(gzip.compress(body), coding="gzip"), ["https://a.example/1"])

    @given(st.integers(1, 400))
    def test_cuts(self, size: int) -> None:
        """It makes no difference how it is cut on the way."""
        body = gzip.compress(urlset(*(f"https://a.example/{number}" for number in range(20))))
        self.assertEqual(len(pages(*(body[at : at + size] for at in range(0, len(body), size)))), 20)

    def test_broken(self) -> None:
        """A broken one gives what came before the break."""
        body = urlset("https://a.example/1", "https://a.example/2")
        self.assertEqual(pages(body[:-50]), ["https://a.example/1"])
        self.assertEqual(pages(b"<html><p>Not found"), [])
        self.assertEqual(pages(b""), [])

    def test_half_characters(self) -> None:
        """A location with half a character in it is none; the others are read."""
        body = urlset("https://a.example/&#55296;", "https://a.example/&#xDFFF;/x", "https://a.example/1")
        self.assertEqual(pages(body), ["https://a.example/1"])

    def test_limits(self) -> None:
        """Too many entries, or too many bytes, end it, which is said."""
        body = urlset(*(f"https://a.example/{number}" for number in range(100)))
        with patch.object(sitemap, "SITEMAP_ENTRIES", 10):
            found = read_sitemap([body], URL)
            self.assertEqual((len(found.pages), found.problem), (10, "more than 10 entries"))
        with patch.object(sitemap, "SITEMAP_BYTES", 1000):
            found = read_sitemap([body[:900], body[900:]], URL)
            self.assertTrue(0 < len(found.pages) < 20)
            self.assertIn("more than", found.problem)

    def test_bomb(self) -> None:
        """A bomb is given up at the limit."""
        with patch.object(sitemap, "SITEMAP_BYTES", 1024 * 1024):
            found = read_sitemap([gzip.compress(b"<urlset>" + b" " * 50_000_000)], URL)
        self.assertIn("more than", found.problem)

    def test_entities(self) -> None:
        """Entities are not expanded, neither into gigabytes nor into files of ours."""
        body = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>
            <urlset><url><loc>https://a.example/&b;&f;</loc></url></urlset>"""
        for page in pages(body):
            self.assertNotIn("root", page)
            self.assertNotIn("aaaa", page)

    @given(st.binary(max_size=200))
    def test_anything(self, body: bytes) -> None:
        """Any text is read without a fuss."""
        read_sitemap([b"<" + body], URL)
        read_sitemap([body.replace(b"\x1f\x8b", b"")], URL)
