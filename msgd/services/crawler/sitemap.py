"""Sitemaps: lists of a site's pages, and lists of such lists. Blocking; for a thread.

Source: the sitemaps.org protocol 0.9 (XML, plain text, gzip; at most 50,000 entries and 50 MiB each).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from lxml import etree
from msgspec import Struct

from msgd.services.crawler.coding import pieces
from msgd.services.crawler.urls import URL_LENGTH, Address, Base

SITEMAP_BYTES: Final = 50 * 1024 * 1024
SITEMAP_ENTRIES: Final = 50_000


class Sitemap(Struct, frozen=True):
    """What a sitemap lists, each once and in its order: ``pages``, or further ``sitemaps``; ``problem``: why it ends
    early."""

    pages: Sequence[Address]
    sitemaps: Sequence[Address]
    problem: str = ""


def read_sitemap(chunks: Iterable[bytes], url: str, *, content_encoding: str = "") -> Sitemap:
    """Read a sitemap piece by piece; broken, endless or hostile ones give what came before. Raises BrokenCoding.

    A sitemap may be a gzip file whatever its headers say; entities are not expanded, nothing is fetched.
    """
    base = Base(url)
    pages: dict[str, Address] = {}
    sitemaps: dict[str, Address] = {}
    problem = ""
    try:
        for is_index, text in _entries(_bounded(_unzipped(pieces(chunks, content_encoding)))):
            found = base.resolve(text)
            if found is not None:
                (sitemaps if is_index else pages)[found.key] = found
            if len(pages) + len(sitemaps) >= SITEMAP_ENTRIES:
                problem = f"more than {SITEMAP_ENTRIES} entries"
                break
    except (etree.XMLSyntaxError, _Bounded) as error:
        problem = str(error)
    return Sitemap(tuple(pages.values()), tuple(sitemaps.values()), problem)


class _Bounded(Exception):
    """Over SITEMAP_BYTES."""


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > SITEMAP_BYTES:
            raise _Bounded(f"more than {SITEMAP_BYTES // (1024 * 1024)} MiB")
        yield chunk


def _unzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """``sitemap.xml.gz`` comes as it is, not as a content coding."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= 2:
            break

    def all_chunks() -> Iterator[bytes]:
        if first:
            yield first
        yield from chunks

    return pieces(all_chunks(), "gzip") if first.startswith(b"\x1f\x8b") else all_chunks()


def _entries(chunks: Iterator[bytes]) -> Iterator[tuple[bool, str]]:
    """(is it a sitemap, its URL) of each entry."""
    first = next(chunks, b"")
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        yield from _xml_entries(first, chunks)
    else:
        yield from _text_entries(first, chunks)


def _text_entries(first: bytes, chunks: Iterator[bytes]) -> Iterator[tuple[bool, str]]:
    rest = first
    while True:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield from _text_entry(line)
        chunk = next(chunks, b"")
        if not chunk or len(rest) > URL_LENGTH:
            break
        rest += chunk
    yield from _text_entry(rest)


def _text_entry(line: bytes) -> Iterator[tuple[bool, str]]:
    text = line.decode("utf-8-sig", "replace").strip()
    if text.startswith(("http://", "https://")):
        yield False, text


def _xml_entries(first: bytes, chunks: Iterator[bytes]) -> Iterator[tuple[bool, str]]:
    parser = etree.XMLPullParser(
        ("end",), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True
    )
    chunk = first
    while chunk:
        parser.feed(chunk)
        for _, element in parser.read_events():
            tag = etree.QName(element).localname if isinstance(element.tag, str) else ""
            if tag == "loc":
                parent = element.getparent()
                outer = "" if parent is None else etree.QName(parent).localname
                text = _text_of(element) if outer in ("url", "sitemap") else ""
                if text:
                    yield outer == "sitemap", text
            elif tag in ("url", "sitemap"):
                # Forget it, and its siblings before it: a sitemap of 50 MB is read in a few hundred KB.
                element.clear()
                outer_element = element.getparent()
                while outer_element is not None and element.getprevious() is not None:
                    del outer_element[0]
        chunk = next(chunks, b"")


def _text_of(element: etree._Element) -> str:
    """The text of an element, perhaps empty. Half a character (``&#55296;``) is taken by libxml2, and then cannot be
    read."""
    try:
        return (element.text or "").strip()
    except UnicodeDecodeError:
        return ""
