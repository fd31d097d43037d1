"""What a crawl is asked to do, checked to the bottom before it begins: a wrong expression is told at the door."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from msgd.services.crawler.criteria import KINDS, Criterion, compile_search
from msgd.services.crawler.scope import Pattern
from msgd.services.crawler.urls import URL_LENGTH, Address, address
from msgd.work.interface import JobType

CRITERIA: Final = 50
"""Criteria of one crawl: each is run on every page."""

NAME_LENGTH: Final = 80
"""A criterion's name heads a column."""

Pages = Annotated[int, Meta(ge=1, le=1_000_000)]
Depth = Annotated[int, Meta(ge=0, le=1000)]
Concurrency = Annotated[int, Meta(ge=1, le=64)]
Seconds = Annotated[float, Meta(gt=0, le=30 * 86400)]
Delay = Annotated[float, Meta(ge=0, le=3600)]
Text = Annotated[str, Meta(min_length=1)]


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One criterion: exactly one of ``regex``, ``css``, ``xpath``, ``text``; ``attr`` looks into that attribute."""

    name: Annotated[str, Meta(max_length=NAME_LENGTH)] = ""
    regex: Text | None = None
    css: Text | None = None
    xpath: Text | None = None
    text: Text | None = None
    attr: Annotated[str, Meta(max_length=NAME_LENGTH)] = ""

    def __post_init__(self) -> None:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}; here are {' and '.join(given) or 'none'}")
        try:
            self.compile()
        except ValueError as error:
            raise ValueError(f"{given[0]}: {error}") from None

    def compile(self) -> Criterion:
        """The criterion, ready to search; its name is the expression itself if none was given."""
        kind, expression = next((kind, value) for kind in KINDS if (value := getattr(self, kind)) is not None)
        return Criterion(
            name=self.name or expression[:NAME_LENGTH],
            search=compile_search(kind, expression, self.attr),
            reads_text=kind in ("regex", "text") and not self.attr,
        )


class CrawlParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``params`` of a ``crawl`` job (DESIGN §4.2)."""

    url: Annotated[str, Meta(min_length=1, max_length=URL_LENGTH)]
    match: Annotated[list[Match], Meta(max_length=CRITERIA)] = []
    depth: Depth = 5  # links to follow from the start; 0: that page alone
    max_pages: Pages = 1000
    max_seconds: Seconds | None = None  # since the crawl began, all slices together
    allow: Annotated[list[str], Meta(max_length=200)] = []
    deny: Annotated[list[str], Meta(max_length=200)] = []
    delay: Delay | Literal["auto"] = "auto"  # seconds between requests to one host; 0: none
    concurrency: Concurrency = 8  # requests under way at a time
    sitemap: bool = True

    def __post_init__(self) -> None:
        _start(self.url)
        for field in ("allow", "deny"):
            for number, text in enumerate(getattr(self, field)):
                try:
                    Pattern(text)
                except ValueError as error:
                    raise ValueError(f"{field}[{number}]: {error}") from None

    @property
    def start(self) -> Address:
        """The start URL in both its forms."""
        return _start(self.url)

    def criteria(self) -> list[Criterion]:
        """All criteria, ready to search."""
        return [match.compile() for match in self.match]


def _start(url: str) -> Address:
    found = address(url.strip())
    if found is None:
        hint = "it must begin with http:// or https://, name a host, and hold no user or password"
        if "://" not in url:
            hint = f"did you mean 'https://{url.strip()}'?"
        raise ValueError(f"url: {url[:200]!r} cannot be crawled: {hint}")
    return found


CRAWL: Final = JobType(
    "crawl", CrawlParams, ("result",), "Crawl a site and keep what matches: text, patterns, elements, attributes."
)
