"""URLs: what a link means, in the one form that pages are known by.

A page has two forms of its URL. The **key** tells pages apart: absolute, without fragment and default port, its
percent-encodings normalised and its query arguments sorted (w3lib's ``canonicalize_url``), so that ``?a=1&b=2`` and
``?b=2&a=1`` are one page. The **url** is what is fetched and shown: the key with the query as the link has it, for
servers that care for the order of arguments.

Sources: RFC 3986, the WHATWG URL standard (through w3lib).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

from w3lib.url import canonicalize_url, safe_url_string

URL_LENGTH: Final = 4096
"""Longer links are not followed: servers refuse them from about 8,000 on, and most are traps or data."""

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}

_NO_HOST: Final = re.compile(r"[\x00-\x20\x7f#%/<>?@\\^|]")
"""What no host holds (the URL standard's forbidden domain code points): a link that has it is no page, and PostgreSQL
would refuse a NUL with all that is stored beside it."""

_PLAIN: Final = re.compile(
    r"(?:http://(?![^/]*:80/)|https://(?![^/]*:443/))"
    r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
    r"/(?:[A-Za-z0-9_~-][A-Za-z0-9_~.-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)?"
    r"(?:\?[A-Za-z0-9_]+=[A-Za-z0-9_.-]+)?"
)
"""Addresses in which there is nothing to normalise: nearly all, and w3lib takes 20 µs for each."""

_PLAIN_REFERENCE: Final = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9_~.-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)?")
"""References from the root of the host with nothing to normalise."""


class Address(NamedTuple):
    """A page's URL in both its forms."""

    key: str
    url: str


@lru_cache(maxsize=1 << 15)
def address(url: str, encoding: str = "utf-8") -> Address | None:
    """Both forms of an absolute URL; None for what is no page: not http or https, malformed, too long, with a user.

    ``encoding``: of the page that the link stood in; browsers encode the query (not the path) in it.
    """
    if len(url) > URL_LENGTH:
        return None
    if _PLAIN.fullmatch(url):
        return Address(url, url)
    try:
        safe = safe_url_string(url, encoding)
        scheme, netloc, path, query, _ = urlsplit(safe)
        scheme = scheme.lower()
        if scheme not in _DEFAULT_PORTS or "@" in netloc:
            return None
        netloc = netloc.lower().removesuffix(":").removesuffix(_DEFAULT_PORTS[scheme])
        # urlsplit finds these wrong only when they are read.
        host = urlsplit(f"//{netloc}").hostname
        if not host or _NO_HOST.search(host) or urlsplit(f"//{netloc}").port == 0:
            return None
        key: str = canonicalize_url(urlunsplit((scheme, netloc, path or "/", query, "")))
        found = f"{key.partition('?')[0]}?{query}" if query else key
        return Address(key, found) if len(found) <= URL_LENGTH else None
    except (ValueError, UnicodeError):  # bad IPv6 or port; a host that no IDNA name can be
        return None


class Base:
    """What the links of one page are relative to."""

    def __init__(self, url: str, encoding: str = "utf-8") -> None:
        self._url = url
        self.encoding = encoding
        self._root = host_of(url)

    def resolve(self, reference: str) -> Address | None:
        """What ``reference``, as it stands in the page, leads to; None if that is no page."""
        if _PLAIN_REFERENCE.fullmatch(reference):
            return address(self._root + reference)
        reference = reference.strip(" \t\r\n\f")  # the HTML standard's "strip leading and trailing ASCII whitespace"
        if reference.startswith("#"):  # within the page itself
            return None
        try:
            return address(urljoin(self._url, reference), self.encoding)
        except ValueError:
            return None


def site_of(url: str) -> str:
    """The site that an address belongs to: its host without a leading ``www.``, with the port if it is not default.

    So ``http://www.example.com/`` and ``https://example.com/`` are one site; ``docs.example.com`` is another, as are
    two ports of one host. Not the registrable domain: who asks for docs.python.org does not expect bugs.python.org.
    ``allow`` patterns widen a crawl to further hosts.
    """
    return host_of(url).partition("//")[2].removeprefix("www.")  # urlsplit would take ten times as long


def host_of(url: str) -> str:
    """What politeness and robots.txt are kept for: scheme, host and port (RFC 9309 §2.3)."""
    end = url.find("/", 8)
    return url if end < 0 else url[:end]
