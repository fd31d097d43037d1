"""What a ``feed`` job is asked to do."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from msgd.errors import InvalidTopic
from msgd.jobs.interface import Need
from msgd.messages.topics import check_topic
from msgd.services.messenger.webhooks.params import URL_LENGTH, checked_url
from msgd.work.interface import JobType

LEAST_S: Final = 60.0
"""Between two polls of somebody else's server."""

MOST_S: Final = 30 * 86400.0
"""A feed that is read less often forgets what it has told; and ``store`` what was published."""


class FeedParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``params`` of a ``feed`` job (DESIGN §4.2)."""

    url: Annotated[str, Meta(min_length=1, max_length=URL_LENGTH)]
    topic: str  # on which its entries are published
    every: float = 900.0  # seconds between two polls; 0: poll once

    def __post_init__(self) -> None:
        checked_url(self.url)
        try:
            check_topic(self.topic)
        except InvalidTopic as error:
            raise ValueError(f"topic: {error.message}") from None
        if self.topic.partition(".")[0] == "job":
            raise ValueError("topic: entries cannot be published on the topic of a job")
        if self.every and not LEAST_S <= self.every <= MOST_S:
            raise ValueError(f"every: 0 (once), or {LEAST_S:g} to {MOST_S:g} seconds")


FEED: Final = JobType(
    "feed",
    FeedParams,
    ("problem",),
    "Read a feed (RSS, Atom, JSON Feed), each entry once as an event on a topic.",
    needs=(Need("publish", "topic"),),
)
