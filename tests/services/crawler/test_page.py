"""Reading pages: charsets, titles, links, and what is broken about them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.page import MARKED_BYTES, PAGE_LINKS, Reading, _thinned, is_readable, read_page
from msgd.services.crawler.params import Match
from msgd.services.crawler.scope import Scope

URL = "http://a.example/dir/page.html"
SCOPE = Scope(["a.example"])
SOUP = b"<a_href=/x> </a> <p <!-- --> <svg> <base_href= ' \" <table> <tr> </ > <script> &#x0; \0 \xff".split()


def read(body: bytes, content_type: str = "text/html", *, scope: Scope | None = SCOPE, robots_tag: str = "") -> Reading:
    criteria = [Match(name="text", regex="(?s)^.*$").compile()]
    return read_page(body, URL, content_type=content_type, robots_tag=robots_tag, scope=scope, criteria=criteria)


def links(body: bytes, *, robots_tag: str = "") -> list[str]:
    return [link.url.removeprefix("http://a.example") for link in read(body, robots_tag=robots_tag).links]


def text(body: bytes, content_type: str = "text/html") -> str:
    return "".join(found.value for found in read(body, content_type).found)


class CharsetTests(SynchronousTestCase):
    def test_declared(self) -> None:
        """A charset is taken from the BOM, the header, the meta element or the XML declaration."""
        for body, content_type in (
            ("naïve café".encode(), "text/html; charset=utf-8"),
            ("naïve café".encode("latin-1"), "text/html; charset=ISO-8859-1"),
            (b'<meta charset="windows-1252"><p>' + "naïve café".encode("cp1252"), "text/html"),
            (
                b'<meta http-equiv="Content-Type" content="text/html; charset=utf-8">' + "naïve café".encode(),
                "text/html",
            ),
            (b"\xef\xbb\xbf" + "naïve café".encode(), "text/html; charset=latin-1"),
            ("naïve café".encode("utf-16"), "text/html"),
            (b'<?xml version="1.0" encoding="iso-8859-15"?><p>' + "naïve café".encode("iso-8859-15"), "text/html"),
            ("naïve café".encode("utf-16-le"), "text/html; charset=utf-16le"),
        ):
            self.assertEqual(text(body, content_type), "naïve café", (body, content_type))

    def test_undeclared(self) -> None:
        """A charset that nothing declares is guessed from the text."""
        for words, encoding in (
            ("Zażółć gęślą jaźń — pchnąć w tę łódź jeża lub ośm skrzyń fig. " * 3, "utf-8"),
            ("Съешь же ещё этих мягких французских булок, да выпей чаю. " * 3, "windows-1251"),
            ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 3, "shift_jis"),
        ):
            self.assertEqual(text(b"<p>" + words.encode(encoding)), words.strip())

    def test_wrong(self) -> None:
        """A page that is not in its declared charset loses those characters and nothing else."""
        self.assertEqual(text(b"<p>caf\xe9 au lait", "text/html; charset=utf-8"), "caf� au lait")
        self.assertEqual(text(b"<p>plain", "text/html; charset=no-such-charset"), "plain")

    def test_no_charset(self) -> None:
        """A codec of Python's that is no charset is none here: the text is read, in no time."""
        page = "<p>prix 10 €" + "a" * 200_000 + "-zzzz" * 20_000
        for name in ("hex", "zlib", "idna", "punycode", "unicode-escape", "raw_unicode_escape", "undefined"):
            self.assertTrue(text(page.encode(), f"text/html; charset={name}").startswith("prix 10 €"), name)
            self.assertTrue(text(f"<meta charset={name}>{page}".encode(), "text/html").startswith("prix 10 €"), name)

    def test_zeros(self) -> None:
        """A zero byte does not end the page."""
        self.assertEqual(text(b"<p>before\0after"), "before\N{REPLACEMENT CHARACTER}after")


class TextTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Blocks are lines; white space within them is one space; scripts, styles and the head are not seen."""
        body = b"""<html><head><title>T</title><style>s</style></head><body>one<br>two <b>bold</b>
            more<DIV>three</DIV><script>no()</script><table><tr><td>a</td><td>b\xc2\xa0&nbsp;c</td></tr></table>
            <noscript>no</noscript><template>no</template></body></html>"""
        self.assertEqual(text(body), "one\ntwo bold more\nthree\na\nb c")

    def test_lines_of_a_large_page(self) -> None:
        """Each block of a page that is marked in pieces begins a line, and nothing else does."""
        words = [f"{number}" * (number % 7 + 1) for number in range(30_000)]
        page = "".join(f"<p>{word}<b>!</b></p>" for word in words).encode()
        self.assertGreater(len(page), 5 * MARKED_BYTES)
        reading = read_page(page, URL, content_type="text/html", criteria=[Match(regex="(?m)^[0-9]+!$").compile()])
        self.assertEqual([found.value for found in reading.found], [f"{word}!" for word in words[: len(reading.found)]])
        self.assertGreater(len(reading.found), 500)

    def test_title(self) -> None:
        """The title is that of the page, in one line."""
        self.assertEqual(read(b"<title>\n A \n page </title><svg><title>drawing</title></svg>").title, "A page")

    def test_plain(self) -> None:
        """Text files are read as they stand; a body without a type is a page if it looks like one."""
        self.assertEqual(text(b"<b>x</b>", "text/plain"), "<b>x</b>")
        self.assertEqual(text(b' {"a": 1}', "application/json"), '{"a": 1}')
        self.assertEqual(text(b" \n<p>x", ""), "x")
        self.assertEqual(text(b"just words", ""), "just words")

    def test_readable(self) -> None:
        """Text can be searched, pictures and archives cannot."""
        for content_type in (
            "",
            "text/html",
            "TEXT/HTML;charset=x",
            "application/xhtml+xml",
            "text/csv",
            "application/json",
        ):
            self.assertTrue(is_readable(content_type), content_type)
        for content_type in ("image/png", "application/pdf", "application/octet-stream", "video/mp4"):
            self.assertFalse(is_readable(content_type), content_type)


class LinkTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Links are those of a, area, frames, rel=next, prev and canonical, and meta refresh; each once."""
        body = b"""<link rel="canonical" href="/canonical"><link rel="stylesheet" href="/style"><link rel=next href=/n>
            <meta http-equiv="Refresh" content="5; URL='/refreshed'"><a href="x.html">x</a><a href="./x.html#part">x</a>
            <a name=anchor><a href=""><map><area href="/area"></map><iframe src="/frame"></iframe><img src="/image">
            <a href="mailto:x@a.example">m</a><a href="http://b.example/">other</a><a href="javascript:x()">j</a>"""
        self.assertEqual(sorted(links(body)), ["/area", "/canonical", "/dir/x.html", "/frame", "/n", "/refreshed"])

    def test_base(self) -> None:
        """References are relative to the base element, which may itself be relative."""
        self.assertEqual(links(b'<base href="/other/"><a href="x">x</a>'), ["/other/x"])
        self.assertEqual(
            links(b'<base href="http://b.example/"><a href="x">x</a><a href="http://a.example/y">'), ["/y"]
        )
        self.assertEqual(links(b'<base href="http://["><a href="x">x</a>'), ["/dir/x"])

    def test_nofollow(self) -> None:
        """Pages that say nofollow, to all or to us, are not followed, nor are links that say so."""
        link = b'<a href="/x">x</a>'
        self.assertEqual(links(b'<meta name="robots" content="noindex, NOFOLLOW">' + link), [])
        self.assertEqual(links(b'<meta name="msgd" content="none">' + link), [])
        self.assertEqual(links(link, robots_tag="noarchive, nofollow"), [])
        self.assertEqual(links(b'<meta name="otherbot" content="nofollow">' + link), ["/x"])
        self.assertEqual(links(b'<a rel="external nofollow" href="/y">y</a>' + link), ["/x"])

    def test_not_wanted(self) -> None:
        """At the last depth no links are looked for."""
        self.assertEqual(read(b'<a href="/x">x</a>', scope=None).links, ())

    def test_many(self) -> None:
        """A page has so many links at most."""
        body = b"".join(b"<a href=/%d>" % number for number in range(PAGE_LINKS + 10))
        self.assertEqual(len(read(body).links), PAGE_LINKS)


class BrokenTests(SynchronousTestCase):
    def test_deep(self) -> None:
        """Links below depth 255 are found; what is nested absurdly deep is said to be missing."""
        deep = b"<div>" * 1000 + b'<a href="/deep">x</a>'
        reading = read(deep)
        self.assertEqual([link.url for link in reading.links], ["http://a.example/deep"])
        self.assertEqual(reading.problems, [])
        self.assertIn("nested too deeply", read(b"<a href=/x>" + b"<div>" * 50_000 + b"x").problems[0])

    def test_long(self) -> None:
        """A text of nearly 10 MB is read to its end."""
        body = b"<p>" + b"x" * 9_900_000 + b'<a href="/end">end</a>'
        self.assertEqual([link.url for link in read(body).links], ["http://a.example/end"])

    def test_crowded(self) -> None:
        """An element of so many attributes that libxml2 would take hours keeps the first thousand, however they are
        written; what comes after it is read."""
        for form in ("a%d", "a%d=1", 'a%d=">"', "a%d='\"'", "a%d = x", "<a%d", 'a%d=""b%d=">"/'):
            crowd = " ".join(form.replace("%d", str(number)) for number in range(200_000)).encode()
            reading = read(b"<p>before</p><a href=/kept " + crowd + b"></a><a href=/after>x</a>")
            self.assertEqual([link.url[-6:] for link in reading.links], ["e/kept", "/after"], form)
            self.assertIn("1,000 attributes", reading.problems[0])

    def test_large_and_sane(self) -> None:
        """A large page without such an element is left as it is, though it has long attributes."""
        element = (
            b'<a href="/x" data-text="a = b > c" title=\'"\' onclick="' + b"f(1, 2) / 3; " * 5000 + b'">a = "b</a> '
        )
        self.assertEqual(_thinned(element * 3), element * 3)

    def test_quotes_out_of_place(self) -> None:
        """A quote within the name of a tag or of an attribute opens no value: the tag ends where browsers end it."""
        for tag in (b"<base_href='>", b"<a ='>", b"<a b'='x'>"):
            page = tag + b"text" * 1000 + b"'" + b"<p>more</p>"
            self.assertEqual(_thinned(page), page)

    @given(st.lists(st.sampled_from([*SOUP, b"=", b"'", b'"', b">", b"a "]), max_size=20).map(b"".join))
    def test_thinned(self, page: bytes) -> None:
        """Nothing is taken out of a page whose elements have few attributes."""
        self.assertEqual(_thinned(page * 40), page * 40)

    def test_empty(self) -> None:
        """An empty page has nothing to say, and nothing is wrong with it."""
        for body in (b"", b" ", b"<!-- -->", b"<!doctype html>", b"\xef\xbb\xbf"):
            self.assertEqual(read(body).links, ())
            self.assertEqual(read(body).problems, [])

    @given(st.binary(max_size=300), st.sampled_from(["text/html", "", "text/html; charset=utf-7", "text/plain"]))
    def test_anything(self, body: bytes, content_type: str) -> None:
        """No body, in whatever charset it claims to be, is too broken to be read."""
        read(body, content_type)

    @given(st.lists(st.sampled_from(SOUP)))
    def test_soup(self, parts: list[bytes]) -> None:
        """No soup of tags is too thick."""
        read(b"".join(parts))
