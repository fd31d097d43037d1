"""Which pages belong to a crawl."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.scope import Pattern, Scope
from msgd.services.crawler.urls import address


def _matches(pattern: str, path: str, *, ends: bool) -> bool:
    """What a pattern means, by trying everything."""
    if not pattern:
        return not path or not ends
    if pattern[0] == "*":
        return any(_matches(pattern[1:], path[at:], ends=ends) for at in range(len(path) + 1))
    return path[:1] == pattern[0] and _matches(pattern[1:], path[1:], ends=ends)


class ScopeTests(SynchronousTestCase):
    def admitted(self, urls: Sequence[str], allow: Sequence[str] = (), deny: Sequence[str] = ()) -> list[str]:
        scope = Scope(["a.example"], allow, deny)
        return [url for url in urls if (found := address(url)) is not None and scope.admits(found)]

    def test_site(self) -> None:
        """Without patterns the whole site belongs, and nothing else."""
        own = ["http://a.example/", "https://www.a.example/x?y=1", "http://a.example/z.html"]
        others = ["http://b.example/", "http://docs.a.example/", "http://a.example:8080/", "http://a.example.evil/"]
        self.assertEqual(self.admitted(own + others), own)

    def test_files(self) -> None:
        """Links to files that cannot be searched are not followed, whatever their case or query."""
        urls = [f"http://a.example/file{ending}" for ending in (".PDF", ".jpg", ".tar.gz", ".css?v=2", ".zip")]
        self.assertEqual(self.admitted(urls), [])
        pages = ["http://a.example/page.php", "http://a.example/v1.2/", "http://a.example/x?file=a.pdf"]
        self.assertEqual(self.admitted(pages), pages)

    def test_allow(self) -> None:
        """With allow patterns only what one of them matches from its beginning belongs."""
        urls = [
            "http://a.example/docs/",
            "http://a.example/docs/x?y",
            "http://a.example/old/docs/",
            "http://a.example/",
        ]
        self.assertEqual(self.admitted(urls, allow=["/docs/"]), urls[:2])

    def test_deny(self) -> None:
        """deny is stronger than allow."""
        urls = ["http://a.example/docs/new/", "http://a.example/docs/old/"]
        self.assertEqual(self.admitted(urls, allow=["/docs/"], deny=["/docs/old"]), urls[:1])

    def test_wildcards(self) -> None:
        """The star stands for anything, the dollar for the end, as in robots.txt."""
        urls = ["http://a.example/x.html", "http://a.example/x.html?print=1", "http://a.example/dir/y.html"]
        self.assertEqual(self.admitted(urls, allow=["/*.html$"]), [urls[0], urls[2]])
        self.assertEqual(self.admitted(urls, deny=["*print="]), [urls[0], urls[2]])

    @given(st.text(alphabet="ab*", max_size=8), st.booleans(), st.text(alphabet="ab", max_size=12))
    def test_pattern(self, pattern: str, ends: bool, path: str) -> None:
        """A pattern matches what can be cut into its parts, in whatever way."""
        wanted = _matches(f"/{pattern}", f"/{path}", ends=ends)
        self.assertEqual(Pattern(f"/{pattern}{'$' if ends else ''}").matches("", f"/{path}"), wanted)

    def test_hostile_pattern(self) -> None:
        """A pattern with many stars is decided in no time, also about an address that is made for it."""
        pattern, path = Pattern("/" + "*a" * 100 + "*b$"), "/" + "a" * 4000
        began = time.process_time()
        self.assertFalse(pattern.matches("", path))
        self.assertLess(time.process_time() - began, 0.5)

    def test_other_hosts(self) -> None:
        """Patterns with a host widen the crawl; a path pattern does not hold there."""
        urls = [
            "http://b.example/docs/",
            "https://b.example/docs/x",
            "http://c.b.example/docs/",
            "http://a.example/docs/",
        ]
        self.assertEqual(self.admitted(urls, allow=["https://b.example/docs"]), [urls[1]])
        self.assertEqual(self.admitted(urls, allow=["//b.example/", "/docs/"]), [urls[0], urls[1], urls[3]])
        self.assertEqual(self.admitted(urls, allow=["//*.b.example"]), [urls[2]])

    def test_wrong_patterns(self) -> None:
        """Patterns that mean nothing are told."""
        for text in ("docs", "", "http://", "//*/x", "ftp://a.example/", "/" + "x" * 600):
            self.assertRaises(ValueError, Pattern, text)
