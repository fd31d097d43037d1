"""The crawler's tables: the crawls under way, and the URLs that each has found."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from msgd.database.schema import Serial, metadata, serial, time_ms

crawls = Table(
    "crawls",
    metadata,
    serial(),
    # A purged job takes its frontier with it; that of a job that is done is deleted as it ends.
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("run", Integer, nullable=False),
    time_ms("started_ms"),
    Column("sites", Text, nullable=False),  # JSON: the start's, and where its redirects led
    Column("next_n", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),  # rows of crawl_urls
    Column("handled", BigInteger, nullable=False),  # those that are done with
    Column("pages", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("redirects", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),  # robots.txt forbids them
    Column("results", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    UniqueConstraint("job", "run"),
)

crawl_urls = Table(
    "crawl_urls",
    metadata,
    Column("crawl", Serial, ForeignKey("crawls.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("n", BigInteger, primary_key=True, autoincrement=False),  # in the order of discovery
    Column("digest", LargeBinary, nullable=False),  # of the key that tells pages apart
    Column("url", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    UniqueConstraint("crawl", "digest"),
)

# What is to be fetched next, in order.
Index(
    "ix_crawl_urls_open",
    crawl_urls.c.crawl,
    crawl_urls.c.level,
    crawl_urls.c.n,
    postgresql_where=text("NOT done"),
    sqlite_where=text("NOT done"),
)
