"""URLs: what a link means, and which links mean the same page."""

from __future__ import annotations

import string
from urllib.parse import urljoin, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from w3lib.url import canonicalize_url

from msgd.services.crawler.urls import _PLAIN, URL_LENGTH, Address, Base, address, host_of, site_of

_words = st.text(string.ascii_letters + string.digits + "_~.-", min_size=1, max_size=8)
_hosts = st.sampled_from(["example.com", "a-b.example", "127.0.0.1:8000", "h:80", "h:443", "[::1]", "EXAMPLE.com"])
_urls = st.builds(
    lambda scheme, host, path, query: f"{scheme}://{host}/{'/'.join(path)}{query}",
    st.sampled_from(["http", "https"]),
    _hosts,
    st.lists(_words | st.sampled_from(["..", ".", "%7e", "ä", "a b", "", ";x=1"]), max_size=4),
    st.sampled_from(["", "?", "?a=1", "?b=2&a=1", "?q=ü", "?x=%2f", "?flag", "?a=b+c", "#part", "?a=1#part"]),
)


class AddressTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Each of these URLs has this key, and is fetched as this."""
        for url, key, fetched in (
            ("http://EXAMPLE.com:80", "http://example.com/", None),
            ("HTTPS://a.example:443/x#part", "https://a.example/x", None),
            ("http://a.example:8080/", "http://a.example:8080/", None),
            ("https://a.example:80/", "https://a.example:80/", None),
            ("http://a.example/x?b=2&a=1", "http://a.example/x?a=1&b=2", "http://a.example/x?b=2&a=1"),
            ("http://a.example/%7efoo/./../bar", "http://a.example/bar", None),
            ("http://a.example/a%2fb", "http://a.example/a%2Fb", None),
            ("http://a.example/x y", "http://a.example/x%20y", None),
            ("http://bücher.example/ä", "http://xn--bcher-kva.example/%C3%A4", None),
            ("http://[::1]:8080/x", "http://[::1]:8080/x", None),
        ):
            self.assertEqual(address(url), Address(key, fetched or key), url)

    def test_no_pages(self) -> None:
        """What is no page has no address."""
        for url in (
            "",
            "/relative",
            "mailto:a@b.example",
            "javascript:void(0)",
            "ftp://a.example/",
            "http:///x",
            "http://:80/",
            "http://a.example:0/",
            "http://a.example:99999/",
            "http://a.example:port/",
            "http://user:password@a.example/",
            "http://[::1/",
            "http://\0/",
            "http://a\0b.example/",
            "http://bü\0cher.example/",
            "http://a%00b.example/",
            "http://a b.example/",
            "http://[fe80::1%eth0]/",
            f"http://a.example/{'x' * URL_LENGTH}",
        ):
            self.assertIsNone(address(url), url)

    def test_query_in_page_encoding(self) -> None:
        """A query is encoded as the page is, a path in UTF-8: that is what browsers send."""
        found = address("http://a.example/ä?q=ä", "latin-1")
        self.assertEqual(found and found.url, "http://a.example/%C3%A4?q=%E4")

    @given(_urls)
    def test_settled(self, url: str) -> None:
        """The two forms of an address are addresses themselves, and do not change any more."""
        found = address(url)
        if found is not None:
            self.assertEqual(address(found.url), found)
            self.assertEqual(address(found.key), Address(found.key, found.key))

    @given(_urls)
    @example("http://h:80/")
    @example("http://a.b/a//b")
    def test_plain_needs_nothing(self, url: str) -> None:
        """What is taken as it stands is what w3lib would make of it."""
        if _PLAIN.fullmatch(url):
            self.assertEqual(url, canonicalize_url(url))
            parts = urlsplit(url)
            self.assertNotIn((parts.scheme, parts.port), (("http", 80), ("https", 443)))


class BaseTests(SynchronousTestCase):
    def test_references(self) -> None:
        """References lead where a browser would go."""
        base = Base("http://a.example/dir/page.html?q=1")
        for reference, url in (
            ("/x/y.html", "http://a.example/x/y.html"),
            ("other.html", "http://a.example/dir/other.html"),
            ("../up.html", "http://a.example/up.html"),
            ("?page=2", "http://a.example/dir/page.html?page=2"),
            ("//b.example/z", "http://b.example/z"),
            ("https://c.example", "https://c.example/"),
            ("  spaced.html\n", "http://a.example/dir/spaced.html"),
            ("/a//b", "http://a.example/a//b"),
        ):
            found = base.resolve(reference)
            self.assertEqual(found and found.url, url, reference)

    def test_no_pages(self) -> None:
        """Fragments and other schemes lead nowhere."""
        base = Base("http://a.example/")
        for reference in ("#top", "mailto:x@y.example", "tel:123", "data:text/html,x", "http://[x/"):
            self.assertIsNone(base.resolve(reference), reference)

    @given(st.lists(_words, max_size=3).map(lambda words: "/" + "/".join(words)))
    def test_short_way(self, reference: str) -> None:
        """References from the root mean the same by the short way as by the long one."""
        self.assertEqual(
            Base("http://a.example/dir/page").resolve(reference),
            address(urljoin("http://a.example/dir/page", reference)),
        )


class SiteTests(SynchronousTestCase):
    def test_one_site(self) -> None:
        """A host with and without www, over http and https, is one site; other hosts and ports are others."""
        self.assertEqual(site_of("http://www.a.example/x"), site_of("https://a.example/"))
        self.assertNotEqual(site_of("http://docs.a.example/"), site_of("http://a.example/"))
        self.assertNotEqual(site_of("http://a.example:8080/"), site_of("http://a.example/"))

    def test_host(self) -> None:
        """Rules and pace are kept by scheme, host and port."""
        self.assertEqual(host_of("https://a.example:8080/x?y"), "https://a.example:8080")
