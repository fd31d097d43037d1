"""The tables of the feeds: which entries were published already, so that a trimmed journal does not see them again."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, Table

from msgd.database import metadata
from msgd.database.schema import time_ms

feeds = Table(
    "feeds",
    metadata,
    Column("id", LargeBinary, primary_key=True),  # the hash of its URL and topic
    time_ms("read_ms"),
)
Index("ix_feeds_read", feeds.c.read_ms)

feed_entries = Table(
    "feed_entries",
    metadata,
    Column("feed", LargeBinary, ForeignKey("feeds.id", ondelete="CASCADE"), primary_key=True),
    Column("entry", LargeBinary, primary_key=True),  # the hash of its id
    time_ms("listed_ms"),  # when the feed listed it last, to the day
)
