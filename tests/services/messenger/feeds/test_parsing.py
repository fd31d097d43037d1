"""Entries out of feeds, whole and broken ones."""

from __future__ import annotations

import gzip
import time
import unicodedata
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import PeerError
from msgd.messages.wire import parse_time
from msgd.services.messenger.feeds.parsing import DOCUMENT_BYTES, ENTRIES, Enclosure, parse, unpacked
from msgd.services.messenger.feeds.text import plain, plain_of_html, web_url

BASE = "https://news.example/feeds/all.xml"

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">
<channel><title>The &lt;b&gt;News&lt;/b&gt;</title><link>https://news.example/</link>
<item><title>Second &amp;amp; last</title><link>/2</link><guid isPermaLink="false">n2</guid>
  <description><![CDATA[<p>Hello <b>you</b>.</p><p>Bye<script>alert(1)</script></p>]]></description>
  <pubDate>Mon, 06 Sep 2021 10:00:00 +0200</pubDate><dc:creator>Ann</dc:creator><itunes:title>no</itunes:title>
  <enclosure url="https://news.example/2.mp3" type="audio/mpeg" length="123"/></item>
<item><title>First</title><guid>https://news.example/1</guid><pubDate>Sun, 05 Sep 2021 10:00:00 GMT</pubDate></item>
</channel></rss>"""

ATOM = """<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en"><title type="html">At&amp;lt;om</title>
<entry><id>tag:x,1</id><title>1 &lt; 2</title><link rel="self" href="/self"/><link href="one"/>
  <link rel="enclosure" href="one.zip" length="many"/>
  <updated>2021-09-06T08:00:00Z</updated><published>2021-09-06T10:00:00.250+02:00</published>
  <author><name>Ann</name><uri>x</uri></author><author><name>Bob</name></author>
  <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>One</p><p>two</p></div></content></entry>
</feed>"""

RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
  xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="x"><title>R</title></channel>
<item rdf:about="https://r.example/1"><title>One</title><link>https://r.example/1</link><dc:date>2021-09-06</dc:date></item>
</rdf:RDF>"""


def rss(*items: str, head: str = "", end: str = "</channel></rss>") -> bytes:
    """A feed with these items."""
    return f'{head}<rss version="2.0"><channel><title>T</title>{"".join(items)}{end}'.encode()


def item(number: int, more: str = "") -> str:
    return f"<item><guid isPermaLink='false'>n{number}</guid><title>T{number}</title>{more}</item>"


class FormTests(SynchronousTestCase):
    """The kinds of feeds."""

    def test_rss(self) -> None:
        """RSS 2.0: plain texts, whole links, UTC times; the oldest first."""
        parsed = parse(RSS.encode(), BASE)
        self.assertEqual((parsed.title, parsed.problem), ("The News", ""))
        first, second = parsed.entries
        self.assertEqual((first.id, first.url, first.text), ("https://news.example/1", "https://news.example/1", ""))
        self.assertEqual((second.id, second.title, second.url), ("n2", "Second & last", "https://news.example/2"))
        self.assertEqual(second.text, "Hello you. Bye")
        self.assertEqual(second.published_ms, parse_time("2021-09-06T08:00:00Z"))
        self.assertEqual(second.authors, ("Ann",))
        self.assertEqual(second.enclosures, (Enclosure("https://news.example/2.mp3", "audio/mpeg", 123),))

    def test_atom(self) -> None:
        """Atom: the alternate link, its own times, every author."""
        parsed = parse(ATOM.encode(), BASE)
        (entry,) = parsed.entries
        self.assertEqual((parsed.title, entry.title), ("At<om", "1 < 2"))
        self.assertEqual((entry.id, entry.url, entry.text), ("tag:x,1", "https://news.example/feeds/one", "One two"))
        self.assertEqual(entry.published_ms, parse_time("2021-09-06T08:00:00.250Z"))
        self.assertEqual(entry.updated_ms, parse_time("2021-09-06T08:00:00Z"))
        self.assertEqual(entry.authors, ("Ann", "Bob"))
        self.assertEqual(entry.enclosures, (Enclosure("https://news.example/feeds/one.zip", "", None),))

    def test_rdf(self) -> None:
        """RSS 1.0: items beside the channel, named by what they are about."""
        parsed = parse(RDF.encode(), BASE)
        (entry,) = parsed.entries
        self.assertEqual((parsed.title, entry.id, entry.title), ("R", "https://r.example/1", "One"))
        self.assertEqual(entry.published_ms, parse_time("2021-09-06T00:00:00Z"))

    def test_encodings(self) -> None:
        """The document's own declaration counts, then HTTP's; what neither says is UTF-8."""
        for text, head, charset in (
            ("latin-1", '<?xml version="1.0" encoding="iso-8859-1"?>', "utf-8"),
            ("latin-1", "", "iso-8859-1"),
            ("utf-16", '<?xml version="1.0" encoding="utf-16"?>', ""),
            ("utf-8", "", ""),
            ("utf-8", "", "no-such-charset"),
        ):
            body = rss(item(1, "<category>x</category>").replace("T1", "Größe €"[:5]), head=head).decode().encode(text)
            self.assertEqual(parse(body, BASE, charset).entries[0].title, "Größe", (text, charset))


class OrderTests(SynchronousTestCase):
    """Which entries there are, and in what order."""

    def test_without_dates(self) -> None:
        """Without a date on each they are told from the last to the first, as feeds list the newest first."""
        dated = item(2, "<pubDate>Sun, 05 Sep 2021 10:00:00 GMT</pubDate>")
        entries = parse(rss(item(3), dated, item(1)), BASE).entries
        self.assertEqual([entry.id for entry in entries], ["n1", "n2", "n3"])
        self.assertEqual([entry.published_ms for entry in entries].count(None), 2)

    def test_without_ids(self) -> None:
        """An entry without an id is known by its link; without one, by what it says; one that says nothing is none."""
        items = ["<item><link>/a</link><title>A</title></item>", "<item><title>B</title></item>", "<item/>"]
        ids = [entry.id for entry in parse(rss(*items), BASE).entries]
        self.assertEqual(ids[-1], "https://news.example/a")
        self.assertEqual(len(set(ids)), 2)
        self.assertEqual(ids, [entry.id for entry in parse(rss(*items), BASE).entries])

    def test_twice(self) -> None:
        """What is listed twice is one entry."""
        self.assertEqual([one.id for one in parse(rss(item(1), item(2), item(1, "<x/>")), BASE).entries], ["n2", "n1"])

    def test_odd_dates(self) -> None:
        """A date that is none, or lies beyond all calendars, is none."""
        for text in ("soon", "", "Mon, 99 Foo 2021", "0000-00-00", "9999-99-99T00:00:00Z", "1e9"):
            (entry,) = parse(rss(item(1, f"<pubDate>{text}</pubDate>")), BASE).entries
            self.assertIs(entry.published_ms, None, text)

    def test_long(self) -> None:
        """Of what is too long the beginning is told; an id that nobody would keep becomes its hash."""
        body = rss(
            f"<item><guid>{'x' * 9999}</guid><title>{'t ' * 9999}</title><description>{'d' * 9999}</description></item>"
        )
        (entry,) = parse(body, BASE).entries
        self.assertEqual((len(entry.id), len(entry.title) <= 500, len(entry.text)), (128, True, 2000))

    def test_many(self) -> None:
        """Of more than a thousand entries the first are read, and that is told."""
        parsed = parse(rss(*map(item, range(ENTRIES + 5))), BASE)
        self.assertEqual(len(parsed.entries), ENTRIES)
        self.assertIn("more than 1000", parsed.problem)


class BrokenTests(SynchronousTestCase):
    """Feeds that are not what they should be."""

    def test_names_of_html(self) -> None:
        """HTML's named characters, which XML has not, are read; others stay as they are."""
        parsed = parse(rss(item(1).replace("T1", "caf&eacute; &nope; &amp;c")), BASE)
        self.assertEqual(parsed.entries[0].title, "café &nope; &c")

    def test_half_characters(self) -> None:
        """A number that stands for half a character is shown as none; those beside it are what they are."""
        wrong = (
            "<item><guid>a&#xdfff;b</guid><title x='&#056000;'>&#55295;&#55296;&#x00D800;&#57344;&#8364;</title></item>"
        )
        (entry,) = parse(rss(wrong), BASE).entries
        self.assertEqual((entry.id, entry.title), ("a\ufffdb", "\ud7ff\ufffd\ufffd\ue000€"))
        self.assertRaises(PeerError, parse, rss(wrong).decode().encode("utf-16"), BASE)

    def test_badly_nested(self) -> None:
        """What comes after a mistake is read too."""
        parsed = parse(rss(item(1, "<b><i>x</b></i>"), item(2, "& <br>"), item(3)), BASE)
        self.assertLessEqual({"n1", "n2"}, {entry.id for entry in parsed.entries})
        self.assertTrue(parsed.problem.startswith("line 1: "), parsed.problem)

    def test_cut_off(self) -> None:
        """Of a document that ends early the last entry is left for next time: half of it may be missing."""
        parsed = parse(rss(item(2), "<item><title>One", end=""), BASE)
        self.assertEqual([entry.id for entry in parsed.entries], ["n2"])
        self.assertIn("ends early", parsed.problem)
        self.assertEqual(parse(rss(item(1), end="</channel></rss><!-- cached -->"), BASE).problem, "")

    def test_no_feed(self) -> None:
        """A page, JSON, nothing at all: told as what they are."""
        for body, word in (
            (b"<html><body>hi</body></html>", "<html>"),
            (b'{"items":[]}', "no feed"),
            (b"", "no feed"),
            (b"\0" * 1000, "no feed"),
            (b"\xff\xfe" * 9, "no feed"),
        ):
            error = self.assertRaises(PeerError, parse, body, BASE)
            self.assertIn(word, error.message)

    def test_hostile(self) -> None:
        """Entities that grow, nest or fetch, elements without end, markup without end: none takes long or gets in."""
        grown = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
        million = 1_000_000
        for body in (
            rss(item(1).replace("T1", "&a9;"), head=f'<!DOCTYPE rss [<!ENTITY a0 "lol">{grown}]>'),
            rss(item(1).replace("T1", "&f;"), head='<!DOCTYPE rss [<!ENTITY f SYSTEM "file:///etc/passwd">]>'),
            rss("<a>" * million),
            rss("<item>" * million),
            rss("<item/>" * (million // 2)),
            rss("<item><title>" + "&" * million),
            rss("<item><title>" + "<![CDATA[" * (million // 9)),
            rss("<item a='b'" + " a='b'" * (million // 6)),
            rss(item(1, "<description>" + "&lt;b&gt;" * (million // 9) + "</description>")),
        ):
            began = time.process_time()
            parsed = parse(body, BASE)
            self.assertLess(time.process_time() - began, 3.0, body[:60])
            for entry in parsed.entries:
                self.assertNotIn("root:", entry.title)
                self.assertLessEqual(len(entry.title), 500)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, len(RSS)), st.integers(0, 40))
    def test_anything(self, bytes_: bytes, at: int, length: int) -> None:
        """Whatever is done to a feed, it is read or refused."""
        for body in (RSS.encode()[:at] + bytes_ + RSS.encode()[at + length :], bytes_):
            try:
                parsed = parse(body, BASE)
            except PeerError:
                continue
            for entry in parsed.entries:
                self.assertTrue(entry.id.encode())
                kinds = {unicodedata.category(one) for one in entry.title + entry.text + entry.url}
                self.assertEqual(kinds & {"Cc", "Cs", "Zl", "Zp"}, set())  # a character of tomorrow's Unicode may stand


class PackedTests(SynchronousTestCase):
    """What HTTP packs."""

    def test_unpacked(self) -> None:
        """gzip and deflate; what is broken, unknown or a bomb is refused."""
        self.assertEqual(unpacked(gzip.compress(b"x" * 99), "gzip"), b"x" * 99)
        self.assertEqual(unpacked(zlib.compress(b"x" * 99), "deflate"), b"x" * 99)
        self.assertEqual(unpacked(b"x", ""), b"x")
        bomb = gzip.compress(b"\0" * (DOCUMENT_BYTES * 20))
        for body, coding in ((b"no gzip", "gzip"), (b"x", "br"), (bomb, "gzip")):
            self.assertRaises(PeerError, unpacked, body, coding)


class TextTests(SynchronousTestCase):
    """Markup as text."""

    def test_plain(self) -> None:
        """One line, cut at a word; nothing that is not seen is left."""
        self.assertEqual(plain(" a\n\tb\x00\u202ec ", 10), "a b c")
        self.assertEqual(plain("one two three four", 15), "one two three…")
        self.assertEqual(plain("x" * 20, 10), "x" * 9 + "…")

    def test_html(self) -> None:
        """Scripts and styles go with what is in them; what looks like a tag and is none stays."""
        self.assertEqual(plain_of_html("<style>x</style><p>a<!-- b -->c</p>d&#x2026;", 99), "ac d…")
        self.assertEqual(plain_of_html("1 < 2 & 3", 99), "1 < 2 & 3")
        self.assertEqual(plain_of_html("<img src=x onerror=alert(1)>", 99), "")

    def test_urls(self) -> None:
        """Only what a browser may open safely is a URL."""
        self.assertEqual(web_url("../x?a=1", BASE), "https://news.example/x?a=1")
        for text in ("javascript:alert(1)", "data:text/html,x", "http://a b/", "http://[", "http:///x", "", "x" * 3000):
            self.assertEqual(web_url(text, BASE), "", text)
