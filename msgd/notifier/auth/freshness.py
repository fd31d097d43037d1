"""How long an answer of a server may be relied on, by its ``Cache-Control`` (pure). Source: RFC 9111 §5.2.2."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

AGE_LEAST_S: Final = 60.0
"""A provider that forbids caching is still not asked for each token."""

AGE_MOST_S: Final = 24 * 3600.0
"""A key that its provider has withdrawn is trusted no longer than that, whatever the provider says."""

AGE_DEFAULT_S: Final = 3600.0
"""Where the provider says nothing."""

GRACE_S: Final = 3600.0
"""For how long after its time an answer still counts while no new one can be had: providers have outages of minutes,
and whoever keeps us from reading must not thereby keep a withdrawn key alive."""

EARLY: Final = 0.75
"""Asked again after this part of the time, so that a failed try or two are not noticed by anybody."""

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,12})", re.IGNORECASE)
_NO_CACHE: Final = re.compile(r"(?:^|[\s,])no-(?:cache|store)(?:$|[\s,;=])", re.IGNORECASE)


class Freshness(Struct, frozen=True):
    """Of an answer that came at some moment, in seconds from that moment on."""

    again_s: float  # when to ask again
    end_s: float  # when it counts no more


def freshness(cache_control: str) -> Freshness:
    """The freshness of an answer with this ``Cache-Control``."""
    found = _MAX_AGE.search(cache_control)
    age_s = float(found[1]) if found else AGE_DEFAULT_S
    if _NO_CACHE.search(cache_control):
        age_s = AGE_LEAST_S
    age_s = min(max(age_s, AGE_LEAST_S), AGE_MOST_S)
    return Freshness(age_s * EARLY, age_s + GRACE_S)
