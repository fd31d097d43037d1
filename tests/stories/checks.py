"""What must hold of a crawl's events however it was disturbed."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from tests.stories.site import Site


def found(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The results among a job's events: (path, value)."""
    return [
        (urlsplit(event["data"]["url"]).path, event["data"]["value"]) for event in events if event["type"] == "result"
    ]


def check_crawl(events: list[dict[str, Any]], site: Site) -> None:
    """Every result once, every page once, seqs contiguous from 1, ids unique, one end and it comes last."""
    check_events(events)
    results = found(events)
    assert Counter(results) == Counter(dict.fromkeys(site.results(), 1)), _difference(set(results), site.results())
    pages = Counter(urlsplit(event["data"]["url"]).path for event in events if event["type"] == "page")
    assert pages == Counter({f"/page/{number}": 1 for number in range(site.pages)}), pages.most_common(3)


def check_events(events: list[dict[str, Any]]) -> None:
    """What holds of any ended job's topic."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), "seqs are not contiguous"
    ids = Counter(event["id"] for event in events)
    assert max(ids.values()) == 1, ids.most_common(3)
    types = [event["type"] for event in events]
    ends = [type_ for type_ in types if type_ in ("done", "failed", "cancelled")]
    assert len(ends) == 1, ends
    assert types[-1] == ends[0], types[-3:]
    assert types.count("started") == 1, types[:3]


def _difference(got: set[tuple[str, str]], wanted: set[tuple[str, str]]) -> str:
    return f"missing {sorted(wanted - got)[:5]}, too many {sorted(got - wanted)[:5]}, or some twice"
