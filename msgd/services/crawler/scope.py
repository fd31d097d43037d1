"""Which pages belong to a crawl: those of its site, as ``allow`` and ``deny`` narrow or widen it.

Patterns are those of robots.txt (RFC 9309 §2.2.3), which site owners know: matched from the beginning, ``*`` stands for
anything, ``$`` at the end for the end.

=========================  =========================================================
``/docs/``                 pages of the site whose path (with query) begins so
``/*.html$``               pages of the site that end so
``https://a.example/b``    pages of another host, too; ``//a.example/b`` in any scheme
``//*.example.com/``       all hosts below example.com
=========================  =========================================================

Without ``allow`` the whole site belongs; with it, what matches one of its patterns. ``deny`` is stronger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from msgd.services.crawler.urls import Address, site_of

PATTERN_LENGTH: Final = 500

DECIDED: Final = 1 << 12
"""Addresses whose answer is remembered: the pages of a site mostly link to the same ones. 16 MiB if all are as long as
may be."""

_UNSEARCHED: Final = """
    7z apk bin bz2 cab deb dmg exe gz img iso jar msi pkg rar rpm tar tgz whl xz zip zst
    avif bmp gif heic ico jpeg jpg png psd svg svgz tif tiff webp
    aac flac m4a mid mp3 oga ogg opus wav wma avi flv m4v mkv mov mp4 mpeg mpg ogv webm wmv
    doc docx odp ods odt pdf ppt pptx ps rtf xls xlsx epub mobi
    css eot js map mjs otf ttf wasm woff woff2
"""
SKIPPED: Final = frozenset(_UNSEARCHED.split())
"""Endings of paths that cannot be searched, and so are not even asked for."""

_ENDING: Final = re.compile(r"[^?]*\.([A-Za-z0-9]{1,5})(?:\?|$)")


def _expression(pattern: str) -> str:
    """A pattern as a regular expression that is matched from the beginning of an address.

    What follows a ``*`` is taken where it first fits, for good (an atomic group): a later place could only leave less
    for the rest. Without that ``*a*a*a*a$`` would try all places, which takes for ever. Only what must stand at the
    end is looked for from there.
    """
    ends = pattern.endswith("$")
    first, *others = (re.escape(part) for part in re.split(r"\*+", pattern.removesuffix("$")))
    last = rf".*{others.pop()}" if ends and others else ""
    return first + "".join(rf"(?>.*?{part})" for part in others) + last + (r"\Z" if ends else "")


class Pattern:
    """One ``allow`` or ``deny`` pattern."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, saying what is wrong."""
        if len(text) > PATTERN_LENGTH:
            raise ValueError(f"a pattern has at most {PATTERN_LENGTH} characters")
        if text.startswith(("/", "*")) and not text.startswith("//"):
            self.on_site = True
            source = text
        elif text.startswith(("http://", "https://", "//")):
            self.on_site = False
            prefix, _, rest = text.partition("//")
            host, slash, path = rest.partition("/")
            if not host or set(host) <= {"*", "."}:
                raise ValueError(f"{text!r} names no host")
            source = f"{prefix or '*'}//{host.lower()}/{path}" if slash else f"{prefix or '*'}//{host.lower()}/"
        else:
            raise ValueError(
                f"{text!r} begins neither with '/' (a path of the site) nor with 'http://', 'https://' or '//' (a host)"
            )
        self._match = re.compile(_expression(source), re.DOTALL).match

    def matches(self, url: str, path: str) -> bool:
        """Whether it matches an address, whose path and query are ``path``."""
        return self._match(path if self.on_site else url) is not None


class Scope:
    """Decides about each link that is found."""

    def __init__(self, sites: Iterable[str], allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self.sites = frozenset(sites)
        self._allow = [Pattern(text) for text in allow]
        self._deny = [Pattern(text) for text in deny]
        self._decided: dict[str, bool] = {}

    def admits(self, link: Address) -> bool:
        """Whether this page is to be crawled."""
        url = link.url
        decided = self._decided.get(url)
        if decided is None:
            if len(self._decided) >= DECIDED:  # by several threads at once: a few more do no harm
                self._decided.clear()
            decided = self._decided[url] = self._decide(url)
        return decided

    def _decide(self, url: str) -> bool:
        split = url.index("/", 8)
        ending = _ENDING.match(url, split)
        if ending is not None and ending[1].lower() in SKIPPED:
            return False
        on_site = site_of(url) in self.sites
        if not on_site and not self._allow:
            return False
        if not self._allow and not self._deny:
            return True
        path = url[split:]
        if self._allow and not any((on_site or not one.on_site) and one.matches(url, path) for one in self._allow):
            return False
        return not any(one.matches(url, path) for one in self._deny)
