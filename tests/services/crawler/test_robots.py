"""robots.txt (RFC 9309)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.robots import (
    CRAWL_DELAY_S,
    ROBOTS_BYTES,
    ROBOTS_S,
    UNREACHABLE_S,
    RobotsCache,
    Rules,
    rules_of,
)

FILE = b"""User-agent: *
Disallow: /private/
Allow: /private/open
Disallow: /*.cgi$
Crawl-delay: 2.5

User-agent: otherbot
Disallow: /

Sitemap: https://a.example/map.xml
"""


def allowed(rules: Rules, path: str) -> bool:
    return rules.allows(f"https://a.example{path}")


class RulesTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """The longest match decides; stars and dollars hold; groups of other robots do not."""
        rules = rules_of(200, FILE, 0)
        for path, answer in (
            ("/", True),
            ("/private/x", False),
            ("/private/open", True),
            ("/x.cgi", False),
            ("/x.cgi?y", True),
            ("/robots.txt", True),
        ):
            self.assertEqual(allowed(rules, path), answer, path)

    def test_own_group(self) -> None:
        """A group for us is taken in place of the one for all."""
        rules = rules_of(200, b"User-agent: *\nDisallow: /\n\nUser-agent: MSGD\nDisallow: /x\n", 0)
        self.assertTrue(allowed(rules, "/"))
        self.assertFalse(allowed(rules, "/x"))

    def test_rest(self) -> None:
        """It may ask for a delay, and name sitemaps."""
        rules = rules_of(200, FILE, 0)
        self.assertEqual(rules.crawl_delay_s, 2.5)
        self.assertEqual(rules.sitemaps, ["https://a.example/map.xml"])
        self.assertEqual(rules_of(200, b"User-agent: *\nCrawl-delay: 86400\n", 0).crawl_delay_s, CRAWL_DELAY_S)

    def test_unavailable(self) -> None:
        """Answers of the 400s, and redirects to nowhere, mean that everything is allowed."""
        for status in (301, 400, 401, 403, 404, 410):
            rules = rules_of(status, b"User-agent: *\nDisallow: /\n", 0)
            self.assertTrue(allowed(rules, "/"), status)
            self.assertEqual(rules.until, ROBOTS_S)

    def test_unreachable(self) -> None:
        """Answers of the 500s, and 429, mean that nothing is allowed; it is asked again soon."""
        for status in (429, 500, 503):
            rules = rules_of(status, b"", 0)
            self.assertFalse(allowed(rules, "/"), status)
            self.assertIn(str(status), rules.closed)
            self.assertEqual(rules.until, UNREACHABLE_S)

    def test_long(self) -> None:
        """Of a long file the first 500 KiB count."""
        body = b"User-agent: *\nDisallow: /early\n" + b"#" * ROBOTS_BYTES + b"\nDisallow: /late\n"
        rules = rules_of(200, body, 0)
        self.assertFalse(allowed(rules, "/early"))
        self.assertTrue(allowed(rules, "/late"))

    def test_page(self) -> None:
        """A page in place of a robots.txt forbids nothing."""
        self.assertTrue(allowed(rules_of(200, b"<!doctype html><p>Not found. Disallow: /", 0), "/"))

    @given(st.binary(max_size=300))
    def test_anything(self, body: bytes) -> None:
        """Whatever stands there, it decides about a page one way or the other."""
        rules = rules_of(200, body, 0)
        self.assertIn(allowed(rules, "/x"), (True, False))
        self.assertGreaterEqual(rules.crawl_delay_s, 0)


class CacheTests(SynchronousTestCase):
    def test_day(self) -> None:
        """Rules are kept for a day."""
        cache = RobotsCache()
        rules = rules_of(200, FILE, 100)
        cache.put("https://a.example", rules)
        self.assertIs(cache.get("https://a.example", 100 + ROBOTS_S - 1), rules)
        self.assertIsNone(cache.get("https://a.example", 100 + ROBOTS_S))
        self.assertIsNone(cache.get("https://b.example", 100))

    def test_bounded(self) -> None:
        """The hosts that were asked for longest ago are forgotten first."""
        cache = RobotsCache(limit=2)
        for host in "ab":
            cache.put(host, Rules(until=10))
        cache.get("a", 0)
        cache.put("c", Rules(until=10))
        self.assertEqual([cache.get(host, 0) is not None for host in "abc"], [True, False, True])
