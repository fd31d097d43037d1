"""Reads one page: its charset, its title, its links, and what the criteria find in it. Blocking; for a thread.

Sources: the HTML standard (encoding sniffing, base, meta refresh, rel); RFC 9110 §8.3 (Content-Type).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import cchardet
from lxml import etree
from msgspec import Struct
from w3lib.encoding import (
    html_body_declared_encoding,
    html_to_unicode,
    http_content_type_encoding,
    resolve_encoding,
)

from msgd.services.crawler.criteria import Criterion, Found, cut, search_page, squeeze
from msgd.services.crawler.scope import Scope
from msgd.services.crawler.urls import Address, Base

TITLE_LENGTH: Final = 300
PAGE_LINKS: Final = 20_000
"""Links of one page that are followed: the biggest indexes have a few thousand; more is a trap."""

DETECTED_BYTES: Final = 64 * 1024
"""Read to guess a charset that nothing declares; detection is slow, and more text seldom changes its mind."""

HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
TEXT: Final = frozenset(
    {"application/json", "application/xml", "application/rss+xml", "application/atom+xml", "application/javascript"}
)
"""Searched as they stand, beside ``text/*``."""


class Reading(Struct, frozen=True):
    """What a page has to say."""

    title: str
    links: Sequence[Address]
    found: Sequence[Found]
    problems: Sequence[str]  # what could not be read or searched, for the page's event


def is_readable(content_type: str) -> bool:
    """Whether a body of this media type can be searched. None given: perhaps."""
    kind = _media_type(content_type)
    return not kind or kind in HTML or kind in TEXT or kind.startswith("text/")


def read_page(
    body: bytes,
    url: str,
    *,
    content_type: str = "",
    robots_tag: str = "",
    scope: Scope | None = None,
    criteria: Sequence[Criterion] = (),
) -> Reading:
    """Read the decoded ``body`` of ``url``.

    ``robots_tag``: the X-Robots-Tag header; ``scope``: which links are wanted, None: none.
    """
    encoding, source = _to_utf8(body, content_type)
    if not _is_html(body, content_type):
        text = source.decode("utf-8", "replace")
        found, wrong = search_page(criteria, None, lambda: text)
        return Reading("", (), found, wrong)
    root, problems = _parse(source, lines=any(criterion.reads_text for criterion in criteria))
    if root is None:
        return Reading("", (), (), problems)
    title = next(root.iter("title"), None)
    links: Sequence[Address] = ()
    if scope is not None and not _says_nofollow([robots_tag]):
        links = _links(root, Base(url, encoding), scope)
    found, wrong = search_page(criteria, root, lambda: visible_text(root))
    return Reading(
        title="" if title is None else cut(squeeze("".join(title.itertext())), TITLE_LENGTH),
        links=links,
        found=found,
        problems=[*problems, *wrong],
    )


# -- bytes to a tree ---------------------------------------------------------------------------------------------------


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_html(body: bytes, content_type: str) -> bool:
    kind = _media_type(content_type)
    return kind in HTML or (not kind and body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"))


def _detect(body: bytes) -> str | None:
    found = cchardet.detect(body[:DETECTED_BYTES])["encoding"]
    return resolve_encoding(found) if found else None  # it also knows charsets that Python cannot decode


_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
"""What Python calls a text encoding, and no browser does. Decoding punycode takes quadratic time."""


def _is_charset(encoding: str) -> bool:
    """Whether a declared encoding, by its name in Python, is one that text is written in."""
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        return False
    return codec._is_text_encoding and codec.name.replace("-", "_") not in _NO_CHARSETS


def _to_utf8(body: bytes, content_type: str) -> tuple[str, bytes]:
    """The encoding (BOM, then header, then meta, then a guess) and the body in UTF-8, without what XML cannot hold."""
    declared = http_content_type_encoding(content_type) or html_body_declared_encoding(body)
    if declared is not None and not _is_charset(declared):
        content_type = f"text/html; charset={_detect(body) or 'utf-8'}"  # stands above what the page says
    encoding, text = html_to_unicode(content_type, body, auto_detect_fun=_detect)
    source = text.encode("utf-8", "replace")  # lone surrogates of a broken UTF-16 page
    if b"\0" in source:  # libxml2 would end the page there
        source = source.replace(b"\0", b"\xef\xbf\xbd")
    return encoding, source


TAG_ATTRIBUTES: Final = 1000
"""Attributes of one element that are read. libxml2 walks past all that an element has for each further one: 50,000 take
5 s (2.14), and a page could consist of nothing else."""

THINNED_BYTES: Final = 64 * 1024
"""Smaller pages are spared the look for such elements: one that fills the page takes a third of a second."""

_NAME: Final = rb"<[A-Za-z][^\s/>]*+"
_ATTRIBUTE: Final = rb"(?:[\s/]*+(?:=|[^\s/>=])[^\s/>=]*+(?:\s*+=\s*+(?:\"[^\"]*+\"|'[^']*+'|[^\s>]*+))?+)"
"""As browsers take a tag apart (HTML standard, tokenization), in linear time whatever the quotes."""

_TAG: Final = re.compile(rb"%b%b*+" % (_NAME, _ATTRIBUTE))
_KEPT: Final = re.compile(rb"%b%b{0,%d}+" % (_NAME, _ATTRIBUTE, TAG_ATTRIBUTES))
"""A tag to the end of its last attribute, and of the last that is kept."""


def _thinned(source: bytes) -> bytes:
    """The page without the attributes that are too many."""
    pieces: list[bytes] = []
    at = 0
    for tag in _TAG.finditer(source):
        start, end = tag.span()
        if end - start < 2 * TAG_ATTRIBUTES:  # a sign and a space each
            continue
        kept = _KEPT.match(source, start, end)
        if kept is not None and kept.end() < end:
            pieces.append(source[at : kept.end()])
            at = end
    return b"".join([*pieces, source[at:]]) if pieces else source


_BLOCKS: Final = (
    rb"address|article|aside|blockquote|body|br|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|"
    rb"footer|form|h[1-6]|header|hr|li|main|nav|ol|option|p|pre|section|summary|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_BLOCK_TAG: Final = re.compile(rb"<(?=/?(?i:" + _BLOCKS + rb")[\s/>])")
"""Where a browser breaks the line. Marked in the source: in the tree it takes three times as long as the parse."""

MARKED_BYTES: Final = 64 * 1024
"""Marked at once: the interpreter lock is held meanwhile, by 5 MB of nothing but tags for 400 ms."""


def _marked(source: bytes) -> bytes:
    """The page with line breaks before blocks."""
    pieces: list[bytes] = []
    at = 0
    while at < len(source):
        end = source.find(b"<", at + MARKED_BYTES)  # pieces begin with a tag, so that none is cut
        if end < 0:
            end = len(source)
        pieces.append(_BLOCK_TAG.sub(b"\n<", source[at:end]))
        at = end
    return b"".join(pieces)


def _parse(source: bytes, *, lines: bool) -> tuple[etree._Element | None, list[str]]:
    """The root element and what libxml2 left out. ``lines``: with line breaks at blocks, and only there."""
    if lines:
        source = _marked(source.replace(b"\n", b" ").replace(b"\r", b" "))
    problems = []
    if len(source) > THINNED_BYTES:
        thinned = _thinned(source)
        if len(thinned) < len(source):
            problems.append(f"an element of more than {TAG_ATTRIBUTES:,} attributes: the rest was not read")
        source = thinned
    # A parser of its own: the shared one keeps the interpreter lock while it works. huge_tree: without it links below
    # depth 255 and texts over 10 MB vanish, and a page is bounded before it comes here.
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        root = etree.fromstring(source, parser)
    except etree.XMLSyntaxError:  # an empty document
        return None, []
    if parser.error_log and any(entry.message.startswith("Excessive depth") for entry in parser.error_log):
        problems.append("nested too deeply: what lies below 2,048 elements was not read")
    return root, problems


# -- text --------------------------------------------------------------------------------------------------------------

_ALL_TEXT: Final = etree.XPath("//text()", smart_strings=False)
_UNSEEN: Final = ("head", "script", "style", "noscript", "template")


def visible_text(root: etree._Element) -> str:
    """The text as a reader sees it: one line for each block, runs of white space as one space. Takes scripts out of
    the tree, so it comes after whatever else wants to see them."""
    etree.strip_elements(root, *_UNSEEN, with_tail=False)
    whole = "".join(_ALL_TEXT(root)).replace("\xa0", " ").replace("\t", " ")
    lines = (line if "  " not in line else " ".join(line.split()) for line in whole.split("\n"))
    return "\n".join([kept for line in lines if (kept := line.strip())])


# -- links -------------------------------------------------------------------------------------------------------------

_LINKING: Final = ("a", "area", "iframe", "frame", "link", "meta")
_FOLLOWED_RELS: Final = frozenset({"next", "prev", "canonical"})
_REFRESH: Final = re.compile(r"\s*[\d.]*\s*[;,]?\s*(?:url\s*=\s*)?['\"]?([^'\"]+)", re.IGNORECASE)
_ROBOTS_NAMES: Final = frozenset({"robots", "msgd"})


def _says_nofollow(values: Iterable[str]) -> bool:
    return any(word in ("nofollow", "none") for value in values for word in re.split(r"[\s,:]+", value.lower()))


def _links(root: etree._Element, base: Base, scope: Scope) -> Sequence[Address]:
    """The admitted links, each once, in document order; none if the page says nofollow."""
    references = _references(root)
    if references is None:
        return ()
    stated = root.find(".//base[@href]")
    if stated is not None:
        moved = base.resolve(stated.get("href", ""))
        if moved is not None:
            base = Base(moved.url, base.encoding)
    links: dict[str, Address] = {}
    for reference in references:
        link = base.resolve(reference)
        if link is not None and link.key not in links and scope.admits(link):
            links[link.key] = link
            if len(links) == PAGE_LINKS:
                break
    return tuple(links.values())


def _references(root: etree._Element) -> Iterator[str] | None:
    """What the page refers to, without fragments, each once; None if it asks not to be followed."""
    references: dict[str, None] = {}
    for element in root.iter(*_LINKING):
        tag = element.tag
        if tag == "a" or tag == "area":
            reference = element.get("href")
            rel = element.get("rel")
            if reference and (rel is None or "nofollow" not in rel.lower().split()):
                # An index refers to each page hundreds of times, and what is joined is seven microseconds a time.
                references[reference.partition("#")[0]] = None
        elif tag == "link":
            if not _FOLLOWED_RELS.isdisjoint(element.get("rel", "").lower().split()):
                references[element.get("href", "")] = None
        elif tag == "meta":
            content = element.get("content", "")
            if element.get("name", "").lower() in _ROBOTS_NAMES and _says_nofollow([content]):
                return None
            if element.get("http-equiv", "").lower() == "refresh" and (target := _REFRESH.match(content)):
                references[target[1]] = None
        else:
            references[element.get("src", "")] = None
    references.pop("", None)
    return iter(references)
