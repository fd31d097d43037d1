"""Entries out of the bytes of a feed. Pure, for a thread: libxml2 releases the interpreter while it reads.

RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0, broken ones too: libxml2 goes on after what is wrong, and its first complaint
is told. It expands no entities of a feed's own, fetches nothing, and refuses what is nested deeper than 256. Why not
feedparser: its version 6.0.14 took 5.7 s of processor time for a thousand entries that take 0.5 s here, and 7 s for
300 KB of nested elements, which here are refused in milliseconds (seen on one core, 2026).

Sources: RSS 2.0 (rssboard.org), RFC 4287 (Atom), RDF Site Summary 1.0, RSS 1.0's Dublin Core and content modules.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.entities import name2codepoint
from itertools import islice
from typing import Any, Final

from lxml import etree
from msgspec import Struct

from msgd.errors import PeerError
from msgd.services.messenger.feeds.text import plain, plain_of_html, web_url

DOCUMENT_BYTES: Final = 5 * 1024 * 1024
"""Of a feed, also when it is unpacked: a podcast's with ten years of notes has about 3 MB."""

ENTRIES: Final = 1000
"""Of one document; what more there is, is left out, and that is told."""

TAIL_BYTES: Final = 4096
"""In which a whole document closes its root; some servers add comments of their own behind it."""

TITLE_CHARACTERS: Final = 500
TEXT_CHARACTERS: Final = 2000
NAME_CHARACTERS: Final = 200
ID_CHARACTERS: Final = 2000
SEVERAL: Final = 10
"""Authors and enclosures of an entry."""

_OURS: Final = {
    "": "",
    "http://www.w3.org/2005/Atom": "",
    "http://purl.org/atom/ns#": "",
    "http://purl.org/rss/1.0/": "",
    "http://my.netscape.com/rdf/simple/0.9/": "",
    "http://backend.userland.com/rss2": "",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "",
    "http://purl.org/dc/elements/1.1/": "dc:",
    "http://purl.org/dc/terms/": "dc:",
    "http://purl.org/rss/1.0/modules/content/": "content:",
}
"""Namespaces that are read; elements of others (pictures, podcasts) are passed over."""

_ROOTS: Final = frozenset({"rss", "rdf", "feed"})
_RDF_ABOUT: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about"
_ENTITY: Final = re.compile(rb"&(?:([A-Za-z][A-Za-z0-9]{1,8})|#0*([0-9]{5})|#x0*([0-9A-Fa-f]{4}));")
_XML_ENTITIES: Final = frozenset({b"amp", b"lt", b"gt", b"quot", b"apos"})
_WHOLE: Final = re.compile(rb"</(?:\w+:)?(?:rss|rdf|feed)\s*>", re.IGNORECASE)
_DECLARED: Final = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=")
_BOMS: Final = (b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")


class Enclosure(Struct, frozen=True):
    """A file that belongs to an entry."""

    url: str
    type: str
    length: int | None


class Entry(Struct, frozen=True, kw_only=True):
    """One entry, its texts plain. Times are milliseconds since 1970; None: it tells none that can be read."""

    id: str
    title: str
    url: str
    text: str
    published_ms: int | None
    updated_ms: int | None
    authors: tuple[str, ...]
    enclosures: tuple[Enclosure, ...]


class Parsed(Struct, frozen=True, kw_only=True):
    """What a feed says: its entries once each, the oldest first. ``problem``: what is wrong with it, in a line."""

    title: str
    entries: tuple[Entry, ...]
    problem: str = ""


def unpacked(body: bytes, coding: str) -> bytes:
    """The bytes behind a Content-Encoding, never more than :data:`DOCUMENT_BYTES`; raises PeerError."""
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise PeerError(f"it is packed as {coding[:40]!r}, which was not asked for")
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        found = reader.decompress(body, DOCUMENT_BYTES + 1)
    except zlib.error as error:
        raise PeerError(f"it is packed as {coding}, and broken: {error}") from None
    if len(found) > DOCUMENT_BYTES:
        raise PeerError(f"unpacked it has more than {DOCUMENT_BYTES} bytes")
    return found


def parse(body: bytes, base: str, charset: str = "") -> Parsed:
    """The entries in ``body``, which was found at the URL ``base``; ``charset``: what HTTP says, heeded where the
    document says nothing. Raises PeerError for what is no feed."""
    parser = _parser(_encoding(body, charset))
    try:
        root = etree.fromstring(_ENTITY.sub(_numeric, body), parser)
        return _read(root, parser, body, base)
    except (etree.XMLSyntaxError, ValueError) as error:  # UnicodeDecodeError too: half a character, as UTF-16 hides it
        raise PeerError(f"it is no feed: {plain(str(error), 300)}") from None


def _read(root: Any, parser: etree.XMLParser, body: bytes, base: str) -> Parsed:
    name = "" if root is None else _name(root).lower()
    if root is None or name not in _ROOTS:
        raise PeerError(f"it is no feed, but {f'<{name[:40]}>' if name else 'empty'}")
    complaints = [f"line {one.line}: {one.message}" for one in parser.error_log]
    found = (element for element in root.iter(etree.Element) if _name(element) in ("item", "entry"))
    elements = list(islice(found, ENTRIES + 1))
    if len(elements) > ENTRIES:
        complaints.append(f"it has more than {ENTRIES} entries: the first {ENTRIES} are read")
    elif elements and not _WHOLE.search(body[-TAIL_BYTES:].replace(b"\0", b"")):
        complaints.append("it ends early: its last entry is left out, as it may not be whole")
        elements.pop()
    entries: dict[str, Entry] = {}
    for element in elements[:ENTRIES]:
        entry = _entry(element, base)
        if entry is not None:
            entries.setdefault(entry.id, entry)
    return Parsed(
        title=_feed_title(root), entries=oldest_first(entries.values()), problem=plain("; ".join(complaints[:3]), 500)
    )


def _parser(encoding: str | None) -> etree.XMLParser:
    """A new one, as one that is shared holds the interpreter; None: the document says its encoding."""
    try:
        return etree.XMLParser(
            recover=True,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
            encoding=encoding,
        )
    except LookupError:
        return _parser(None)


def _encoding(body: bytes, charset: str) -> str | None:
    """The encoding that HTTP tells, where the document tells none."""
    known = not charset or body.startswith(_BOMS) or _DECLARED.match(body[:400])
    return None if known or not charset.replace("-", "").replace("_", "").isalnum() else charset


def _numeric(found: re.Match[bytes]) -> bytes:
    """HTML's named characters, which XML does not know, as numbers. Any other name as the text that it is: after an
    unknown one libxml2 drops every ``&amp;`` that follows (seen with 2.14). Half a character (a surrogate) as what
    stands for none: libxml2 would take it, and lxml cannot read it."""
    if found[1] is None:
        half = 0xD800 <= (int(found[2]) if found[2] else int(found[3], 16)) <= 0xDFFF
        return b"&#65533;" if half else found[0]
    if found[1] in _XML_ENTITIES:
        return found[0]
    code = name2codepoint.get(found[1].decode())
    return b"&amp;%s;" % found[1] if code is None else b"&#%d;" % code


def _name(element: Any) -> str:
    """The name of an element in a form such as ``title`` or ``dc:creator``; "" if nobody here reads it."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""
    namespace, _, name = tag[1:].partition("}") if tag.startswith("{") else ("", "", tag)
    prefix = _OURS.get(namespace)
    return "" if prefix is None else prefix + name  # of a prefix that was never declared the name still tells


def _feed_title(root: Any) -> str:
    channel = next((element for element in root if _name(element) == "channel"), root)
    found = next((element for element in channel if _name(element) == "title"), None)
    return "" if found is None else _text(found, TITLE_CHARACTERS)


def _raw(element: Any) -> str:
    return "".join(element.itertext())


def _text(element: Any, most: int) -> str:
    """The plain text of an element, in which HTML may stand escaped (RSS always, Atom by ``type``)."""
    kind = element.get("type", "")
    if "xhtml" in kind:
        return plain(" ".join(element.itertext()), most)
    atom = element.tag.startswith("{http://www.w3.org/2005/Atom}")
    return plain(_raw(element), most) if atom and kind in ("", "text") else plain_of_html(_raw(element), most)


def _entry(element: Any, base: str) -> Entry | None:
    """One entry; None for one that says nothing at all."""
    fields: dict[str, list[Any]] = {}
    for child in element.iterchildren(etree.Element):
        fields.setdefault(_name(child), []).append(child)

    def first(*names: str) -> Any:
        return next((found for name in names for found in fields.get(name, ())), None)

    def text(most: int, *names: str) -> str:
        found = first(*names)
        return "" if found is None else _text(found, most)

    title, summary = (
        text(TITLE_CHARACTERS, "title", "dc:title"),
        text(TEXT_CHARACTERS, "summary", "description", "content:encoded", "content", "dc:description"),
    )
    published = _time(first("published", "pubDate", "issued", "dc:date", "created"))
    updated = _time(first("updated", "modified", "dc:modified"))
    url = _link(fields, base)
    own = first("id", "guid")
    given = _raw(own).strip() if own is not None else str(element.get(_RDF_ABOUT) or "")
    if not (given or url or title or summary):
        return None
    return Entry(
        id=bounded_id(given or url or f"{title}\n{summary}\n{published}"),
        title=title,
        url=url,
        text=summary,
        published_ms=published,
        updated_ms=updated,
        authors=tuple(_authors(fields))[:SEVERAL],
        enclosures=tuple(_enclosures(fields, base))[:SEVERAL],
    )


def bounded_id(text: str) -> str:
    """An id as it is, or its hash where nobody would keep it."""
    return text if len(text) <= ID_CHARACTERS else hashlib.blake2b(text.encode("utf-8", "replace")).hexdigest()


def _link(fields: dict[str, list[Any]], base: str) -> str:
    """Where the entry is read; a guid that is a URL where there is no link (RSS 2.0)."""
    links = sorted(fields.get("link", ()), key=lambda link: link.get("rel", "alternate") != "alternate")
    for link in links:
        if link.get("rel", "alternate") in ("alternate", "self", "via"):
            url = web_url(link.get("href") or _raw(link), base)
            if url:
                return url
    for guid in fields.get("guid", ()):
        text = _raw(guid).strip()
        if guid.get("isPermaLink", "true") != "false" and text.startswith(("http://", "https://")):
            return web_url(text, base)
    return ""


def _authors(fields: dict[str, list[Any]]) -> Iterator[str]:
    for name in ("author", "dc:creator", "contributor"):
        for author in fields.get(name, ()):
            inner = next((child for child in author if _name(child) == "name"), author)
            text = plain(_raw(inner), NAME_CHARACTERS)
            if text:
                yield text


def _enclosures(fields: dict[str, list[Any]], base: str) -> Iterator[Enclosure]:
    links = [link for link in fields.get("link", ()) if link.get("rel") == "enclosure"]
    for one in (*fields.get("enclosure", ()), *links):
        url = web_url(one.get("url") or one.get("href") or "", base)
        length = one.get("length", "")
        if url:
            known = length.isascii() and length.isdigit() and len(length) < 16
            yield Enclosure(url, plain(one.get("type", ""), NAME_CHARACTERS), int(length) if known else None)


def time_ms(text: str) -> int | None:
    """RFC 3339, as Atom has it, or RFC 822, as RSS has it; without an offset it is UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text.strip()[:100])
            at_ms = round(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1000)
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
        return at_ms if 0 <= at_ms < 253_402_300_800_000 else None
    return None


def _time(element: Any) -> int | None:
    return None if element is None else time_ms(_raw(element))


def oldest_first(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """By their times, if all have one. Else as they stand, from the last: feeds begin with the newest."""
    found = list(reversed(list(entries)))

    def told_ms(entry: Entry) -> int:
        return entry.published_ms or entry.updated_ms or 0

    return tuple(sorted(found, key=told_ms) if all(told_ms(entry) for entry in found) else found)
