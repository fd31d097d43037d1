"""Anybody's markup as plain text of a bounded length: no tag, script or control character is left of it. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin, urlsplit

import lxml.html
from lxml import etree

MARKUP_CHARACTERS: Final = 50_000
"""Of markup looked at: many times what is shown of its text."""

URL_CHARACTERS: Final = 2000

_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+")
"""Control characters, line and paragraph separators, and what turns the direction of writing around."""

_BARE: Final = re.compile(r"&(?!#?[A-Za-z0-9]{1,32};)")
"""An ampersand that is meant: libxml2 would drop it."""

_BREAKS: Final = frozenset(
    "p br div li ul ol table tr td th blockquote pre hr h1 h2 h3 h4 h5 h6".split()  # noqa: SIM905  reads as what it is
)
_DROPPED: Final = ("script", "style", "noscript", "template", "head")


def plain(text: str, most: int) -> str:
    """Text without markup: one line, ``most`` characters at most, cut at a word where that is near."""
    line = " ".join(_UNSEEN.sub(" ", text).split())
    if len(line) <= most:
        return line
    cut = line[: most - 1]
    words = cut.rpartition(" ")[0]
    return f"{words if len(words) > most * 3 // 4 else cut}…"


def plain_of_html(markup: str, most: int) -> str:
    """The text of some HTML, as :func:`plain`."""
    markup = _BARE.sub("&amp;", markup[:MARKUP_CHARACTERS])
    if "<" not in markup and "&" not in markup:
        return plain(markup, most)
    try:
        root = lxml.html.fragment_fromstring(_UNSEEN.sub(" ", markup), create_parent="div")
    except (etree.ParserError, ValueError, AssertionError):
        return plain(re.sub(r"<[^<>]*>", " ", markup), most)
    etree.strip_elements(root, *_DROPPED, etree.Comment, with_tail=False)
    parts: list[str] = []
    for action, element in etree.iterwalk(root, events=("start", "end")):
        if element.tag in _BREAKS:
            parts.append(" ")
        text = element.text if action == "start" else element.tail
        if text:
            parts.append(text)
    return plain("".join(parts), most)


def web_url(text: str, base: str) -> str:
    """An http(s) URL, made whole by ``base``; "" for all else, such as ``javascript:``."""
    text = text.strip()
    if not text or len(text) > URL_CHARACTERS or re.search(r"[\s\x00-\x1f\x7f]", text):
        return ""
    try:
        url = urljoin(base, text)
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return ""
    fits = parts.scheme in ("http", "https") and parts.hostname and len(url) <= URL_CHARACTERS
    return _UNSEEN.sub("", url) if fits else ""
