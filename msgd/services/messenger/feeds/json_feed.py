"""Entries out of a JSON Feed, version 1 or 1.1 (jsonfeed.org). Pure, for a thread.

As in ``parsing`` what can be read of a broken one is: fields of a wrong kind are passed over. What is no JSON, or no
list of items, is refused: half a document cannot be told from a whole one. Decoding holds the interpreter, so what has
more objects than any feed is not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from msgd.errors import PeerError
from msgd.services.messenger.feeds.parsing import (
    ENTRIES,
    NAME_CHARACTERS,
    SEVERAL,
    TEXT_CHARACTERS,
    TITLE_CHARACTERS,
    Enclosure,
    Entry,
    Parsed,
    bounded_id,
    oldest_first,
    time_ms,
)
from msgd.services.messenger.feeds.text import plain, plain_of_html, web_url

T = TypeVar("T")

VERSIONS: Final = ("https://jsonfeed.org/version/", "http://jsonfeed.org/version/")

OBJECTS: Final = 50_000
"""In a document; each takes half a microsecond. A thousand entries with authors and attachments have some thousands,
and the braces in their texts count too."""

_BOM: Final = b"\xef\xbb\xbf"
_NOTHING: Final = Raw()


class _Author(Struct, frozen=True):
    name: Raw = _NOTHING


class _Attachment(Struct, frozen=True):
    url: Raw = _NOTHING
    mime_type: Raw = _NOTHING
    size_in_bytes: Raw = _NOTHING


class _Item(Struct, frozen=True):
    id: Raw = _NOTHING
    url: Raw = _NOTHING
    external_url: Raw = _NOTHING
    title: Raw = _NOTHING
    summary: Raw = _NOTHING
    content_text: Raw = _NOTHING
    content_html: Raw = _NOTHING
    date_published: Raw = _NOTHING
    date_modified: Raw = _NOTHING
    authors: Raw = _NOTHING
    author: Raw = _NOTHING  # of version 1
    attachments: Raw = _NOTHING


class _Feed(Struct, frozen=True):
    items: list[_Item]
    version: str
    title: Raw = _NOTHING
    authors: Raw = _NOTHING
    author: Raw = _NOTHING
    expired: Raw = _NOTHING


_decoder: Final = msgspec.json.Decoder(_Feed)


def is_json(body: bytes) -> bool:
    """Whether this is rather JSON than XML: a server's Content-Type tells it too rarely."""
    return body[:100].removeprefix(_BOM).lstrip().startswith(b"{")


def parse(body: bytes, base: str) -> Parsed:
    """The entries in ``body``, which was found at the URL ``base``. Raises PeerError for what is no feed."""
    if body.count(b"{") > OBJECTS:
        raise PeerError(f"it is no feed: it has more than {OBJECTS} objects")
    try:
        feed = _decoder.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PeerError(f"it is no feed: {error}") from None
    if not feed.version.startswith(VERSIONS):
        raise PeerError(f"it is no feed, but JSON of the version {feed.version[:80]!r}")
    complaints: list[str] = []
    if len(feed.items) > ENTRIES:
        complaints.append(f"it has more than {ENTRIES} entries: the first {ENTRIES} are read")
    if _value(feed.expired, bool):
        complaints.append("it says that nothing will be added any more")
    entries: dict[str, Entry] = {}
    for item in feed.items[:ENTRIES]:
        entry = _entry(item, feed, base)
        if entry is not None:
            entries.setdefault(entry.id, entry)
    title = plain(_text(feed.title), TITLE_CHARACTERS)
    return Parsed(title=title, entries=oldest_first(entries.values()), problem="; ".join(complaints))


def _entry(item: _Item, feed: _Feed, base: str) -> Entry | None:
    """One entry; None for one that says nothing at all."""
    title = plain(_text(item.title), TITLE_CHARACTERS)
    text = plain(_text(item.summary) or _text(item.content_text), TEXT_CHARACTERS)
    text = text or plain_of_html(_text(item.content_html), TEXT_CHARACTERS)
    url = web_url(_text(item.url), base) or web_url(_text(item.external_url), base)
    given = _id(item.id)
    if not (given or url or title or text):
        return None
    published = time_ms(_text(item.date_published))
    return Entry(
        id=bounded_id(given or url or f"{title}\n{text}\n{published}"),
        title=title,
        url=url,
        text=text,
        published_ms=published,
        updated_ms=time_ms(_text(item.date_modified)),
        authors=_authors(item) or _authors(feed),
        enclosures=tuple(_enclosures(item, base)),
    )


def _value(raw: Raw, kind: type[T]) -> T | None:
    """A field, where it is of this kind."""
    if not bytes(raw):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _text(raw: Raw) -> str:
    return _value(raw, str) or ""


def _id(raw: Raw) -> str:
    """A text; a number as it stands there ("coerce it to a string")."""
    written = bytes(raw)
    return written.decode("ascii", "replace") if written[:1].isdigit() or written[:1] == b"-" else _text(raw).strip()


def _authors(one: _Item | _Feed) -> tuple[str, ...]:
    several = _value(one.authors, list[_Author])
    single = _value(one.author, _Author)
    found: Sequence[Any] = several or ([single] if single else [])
    names = (plain(_text(author.name), NAME_CHARACTERS) for author in found[:SEVERAL])
    return tuple(name for name in names if name)


def _enclosures(item: _Item, base: str) -> list[Enclosure]:
    found = []
    for one in (_value(item.attachments, list[_Attachment]) or [])[:SEVERAL]:
        url, size = web_url(_text(one.url), base), _value(one.size_in_bytes, float)
        if url:
            length = int(size) if size is not None and 0 <= size < 1e15 else None
            found.append(Enclosure(url, plain(_text(one.mime_type), NAME_CHARACTERS), length))
    return found
