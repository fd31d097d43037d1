"""What is looked for in a page."""

from __future__ import annotations

from time import process_time
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler import criteria
from msgd.services.crawler.criteria import PAGE_RESULTS, REGEX_GROUPS, VALUE_LENGTH, Found, by_regex, nested_walks
from msgd.services.crawler.page import read_page
from msgd.services.crawler.params import Match

PAGE = b"""<!doctype html><title>Prices</title>
<h1>All <em>prices</em></h1>
<script>var hidden = "9.99 EUR";</script>
<style>.price { color: red }</style>
<ul><li class=price data-sku=A1>Tea: <b>12.50</b> EUR</li><li class=price data-sku=B2>Coffee: 7.00 EUR</li></ul>
<p>Tea again:
   12.50
   EUR, and <a href="mailto:shop@a.example">write to us</a>.</p><p>One line</p><p>another</p>
"""


def find(*matches: Match, page: bytes = PAGE) -> list[Found]:
    """What these criteria find in a page."""
    compiled = [match.compile() for match in matches]
    return list(read_page(page, "http://a.example/", content_type="text/html", criteria=compiled).found)


def values(*matches: Match, page: bytes = PAGE) -> list[str]:
    return [found.value for found in find(*matches, page=page)]


class RegexTests(SynchronousTestCase):
    def test_visible_text(self) -> None:
        """A regular expression sees the text as a reader does: across markup, without scripts, white space as one."""
        self.assertEqual(values(Match(regex=r"Tea.*?\d+\.\d\d EUR")), ["Tea: 12.50 EUR", "Tea again: 12.50 EUR"])
        self.assertEqual(values(Match(regex="hidden|color")), [])

    def test_group(self) -> None:
        """The value is the first group, if there is one; each value counts once in a page."""
        self.assertEqual(values(Match(regex=r"(\d+\.\d\d) EUR")), ["12.50", "7.00"])

    def test_lines(self) -> None:
        """Blocks stand on lines of their own."""
        self.assertEqual(values(Match(regex=r"(?m)^One line$")), ["One line"])
        self.assertEqual(values(Match(regex=r"One line another")), [])

    def test_context(self) -> None:
        """The context shows what stands around the match."""
        (found,) = find(Match(name="coffee", regex="Coffee"))
        self.assertEqual((found.name, found.value), ("coffee", "Coffee"))
        self.assertIn("12.50 EUR Coffee: 7.00 EUR", found.context)

    def test_attribute(self) -> None:
        """With attr it looks into that attribute of all elements."""
        self.assertEqual(values(Match(regex=r"mailto:(.+)", attr="href")), ["shop@a.example"])

    def test_backtracking(self) -> None:
        """An expression that backtracks for ever is stopped, and said to have been; other criteria still hold."""
        page = b"<p>" + b"a" * 5000 + b"!</p><h1>Title</h1>"
        compiled = [Match(name="evil", regex="(a|a?)+$").compile(), Match(css="h1").compile()]
        began = process_time()
        with patch.object(criteria, "REGEX_S", 0.05):
            reading = read_page(page, "http://a.example/", content_type="text/html", criteria=compiled)
        self.assertLess(process_time() - began, 1.0)
        self.assertEqual([found.value for found in reading.found], ["Title"])
        self.assertIn("evil", reading.problems[0])

    @given(st.text(max_size=40), st.text(max_size=20))
    def test_any_expression(self, expression: str, text: str) -> None:
        """Any text is either a regular expression that runs or is refused with ValueError."""
        try:
            search = criteria.by_regex(expression, "")
        except ValueError:
            return
        with patch.object(criteria, "REGEX_S", 0.2):
            try:
                list(search(None, text))
            except criteria.TooSlow:
                pass

    def test_nested_groups(self) -> None:
        """Groups within groups within groups would take hours to compile, however they are hidden: they are refused."""
        repeat = "){1,9}"
        for group in ("(?:", "(?:[)]", "(?:[])]", "(?:[^])]", "(?x:#)\n", "(?:\\["):
            self.assertRaises(ValueError, by_regex, group * 30 + "a" + repeat * 30, "")
        began = process_time()
        by_regex("(?:" * REGEX_GROUPS + "a" + repeat * REGEX_GROUPS, "")
        self.assertLess(process_time() - began, 0.5)
        by_regex(r"(\d+) (?:\([)(\]]|#(\w))" * 3, "")


class TextTests(SynchronousTestCase):
    def test_words(self) -> None:
        """Words are found whatever their case and white space, as they stand in the page."""
        self.assertEqual(values(Match(text="ALL  prices")), ["All prices"])
        self.assertEqual(values(Match(text="tea again: 12.50")), ["Tea again: 12.50"])

    def test_nothing_special(self) -> None:
        """Nothing in it is special."""
        self.assertEqual(values(Match(text="1.*0")), [])


class TreeTests(SynchronousTestCase):
    def test_css(self) -> None:
        """A CSS selector gives the text of its elements, in what they stand in."""
        found = find(Match(name="item", css="li.price b"))
        self.assertEqual(found, [Found("item", "12.50", "Tea: 12.50 EUR")])

    def test_css_attribute(self) -> None:
        """With attr it gives that attribute; elements without it give nothing."""
        self.assertEqual(values(Match(css="li", attr="data-sku")), ["A1", "B2"])
        self.assertEqual(values(Match(css="h1", attr="data-sku")), [])

    def test_xpath(self) -> None:
        """XPath gives elements, attributes, strings, numbers and truths."""
        self.assertEqual(values(Match(xpath="//li[contains(., 'Coffee')]")), ["Coffee: 7.00 EUR"])
        self.assertEqual(values(Match(xpath="//li/@data-sku")), ["A1", "B2"])
        self.assertEqual(values(Match(xpath="string(//h1)")), ["All prices"])
        self.assertEqual(values(Match(xpath="count(//li)")), ["2"])
        self.assertEqual(values(Match(xpath="boolean(//h1)")), ["true"])
        self.assertEqual(values(Match(xpath="boolean(//h7)")), [])

    def test_scripts(self) -> None:
        """What stands in a script can be had by selecting it, also beside a criterion that reads the text."""
        found = find(Match(name="text", text="coffee"), Match(name="script", css="script"))
        self.assertEqual({one.name for one in found}, {"text", "script"})

    def test_walks(self) -> None:
        """Walks nested in brackets are counted; what stands in quotes is not."""
        for expression, nested in (
            ("//a/@href", 0),
            ("//a[@href]//b", 0),
            ("//a[.//b]", 1),
            ("//a[preceding-sibling::b][following-sibling::c]", 1),
            ("//a[.//b[.//c]]", 2),
            ("//a/following::b", 1),
            ("//a[b[c]]", 0),
        ):
            self.assertEqual(nested_walks(expression), nested, expression)

    def test_too_deep(self) -> None:
        """An expression that nests too many walks is refused; copied selectors full of :nth-child are not."""
        self.assertRaises(ValueError, criteria.by_xpath, "//a[.//b[.//c[.//d]]]", "")
        criteria.by_xpath("//a[. = '[.//b[.//c[.//d]]]']", "")
        criteria.by_css("body > div:nth-child(3) > table:nth-child(2) tr:nth-child(2) td:nth-child(5)", "")

    def test_too_big(self) -> None:
        """An expression that nests walks is not run on a page on which it could take minutes, which is said."""
        page = b"<ul>" + b"<li>x" * 2000 + b"</ul>"
        compiled = [Match(name="slow", xpath="//li[.//b[.//c]]").compile()]
        reading = read_page(page, "http://a.example/", content_type="text/html", criteria=compiled)
        self.assertIn("slow: ", reading.problems[0])

    def test_unknown(self) -> None:
        """Functions and variables that do not exist are told at once."""
        for expression in ("//a[foo()]", "//a[re:test(., 'x')]", "//a[. = $x]", "//a[", "//[", "count("):
            self.assertRaises(ValueError, criteria.by_xpath, expression, "")

    def test_operators(self) -> None:
        """Operators before a parenthesis are no functions."""
        criteria.by_xpath("//a[(@b) and (@c) or not(@d)]", "")
        criteria.by_xpath("//*[self::a or (self::b)] | //c[position() mod (2) = 1]", "")


class LimitTests(SynchronousTestCase):
    def test_value_length(self) -> None:
        """Long values are cut, visibly."""
        (value,) = values(Match(css="p"), page=b"<p>" + b"x" * 5000)
        self.assertEqual((len(value), value[-1]), (VALUE_LENGTH, "…"))

    def test_results(self) -> None:
        """A page gives so many results at most, and says that there were more."""
        page = b"<p>" + b" ".join(b"%d" % number for number in range(3000))
        reading = read_page(
            page, "http://a.example/", content_type="text/html", criteria=[Match(regex=r"\d+").compile()]
        )
        self.assertEqual(len(reading.found), PAGE_RESULTS)
        self.assertIn("more than", reading.problems[0])

    def test_no_tree(self) -> None:
        """Text files have text, but no elements."""
        compiled = [Match(text="needle").compile(), Match(css="p").compile(), Match(regex="n", attr="x").compile()]
        reading = read_page(b"a needle <p>", "http://a.example/x", content_type="text/plain", criteria=compiled)
        self.assertEqual([found.value for found in reading.found], ["needle"])

    @given(st.text(max_size=200))
    def test_any_page(self, text: str) -> None:
        """Any page can be searched with any kind of criterion; values are never empty and never repeat."""
        found = find(Match(regex=r"\w+"), Match(css="*"), Match(xpath="//@*"), Match(text="a"), page=text.encode())
        pairs = [(one.name, one.value) for one in found]
        self.assertEqual(len(pairs), len(set(pairs)))
        self.assertNotIn("", [one.value for one in found])


class TreeContextTests(SynchronousTestCase):
    def test_large_parent(self) -> None:
        """An element's context is not the whole page it stands in."""
        page = b"<body>" + b"<p>word</p>" * 1000 + b"<h1>Title</h1>"
        (found,) = find(Match(css="h1"), page=page)
        self.assertEqual(found.context, "Title")

    def test_root(self) -> None:
        """The root element has no parent."""
        self.assertEqual(etree.HTML("<p>x").getparent(), None)
        (found,) = find(Match(xpath="/html"), page=b"<p>x")
        self.assertEqual(found.value, "x")
