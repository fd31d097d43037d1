"""The journal's tables.

What is small and changes at every batch (the head, the topics touched) is apart from what is written once (the
events). Bulk statements name the columns in the order in which they stand here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from msgd.database.schema import Serial, metadata, time_ms

# Names are compared byte by byte on both databases: prefixes of topics are ranges of an index.
_Name: Final = Text(collation="C").with_variant(Text(), "sqlite")

head: Final = Table(
    "journal_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("pos", BigInteger, nullable=False),  # of the last event
    Column("live_pos", BigInteger, nullable=False),  # to which live push has come
    Column("last_topic", BigInteger, nullable=False),  # the highest topic id given
    Column("lease_holder", Text, nullable=False),  # empty: free
    Column("lease_number", BigInteger, nullable=False),
    time_ms("lease_until_ms"),
    CheckConstraint("id = 1", name="one_row"),
)
"""How far the journal has come. Every change of the journal locks this row first, so none of them deadlock, and
positions become visible in their order."""

topics: Final = Table(
    "journal_topics",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("name", _Name, nullable=False),
    Column("born_pos", BigInteger, nullable=False),  # of its first event ever
    Column("last_seq", BigInteger, nullable=False),
    Column("last_pos", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),  # the fence: the highest token seen; -1: none yet
    Column("gone_seq", BigInteger, nullable=False),  # events up to this seq are not kept any more
    Column("gone_pos", BigInteger, nullable=False),  # the pos of that event
    Column("erased_pos", BigInteger, nullable=False),  # the same, as far as they were erased, not trimmed
    UniqueConstraint("name"),
    Index("ix_journal_topics_gone_pos", "gone_pos"),  # what a reader has missed
)

events: Final = Table(
    "journal_events",
    metadata,
    Column("pos", Serial, primary_key=True, autoincrement=False),
    Column("topic_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("source", Text, nullable=False),
    time_ms("time_ms"),
    Column("run", BigInteger),
    Column("token", BigInteger),
    # Last, so that SQLite finds the small columns without walking the overflow pages of the data.
    Column("data", LargeBinary, nullable=False),
    Index("ix_journal_events_topic_id_pos", "topic_id", "pos", unique=True),
)
"""The events kept. ``topic_id`` is no foreign key: topics are never deleted, and the check would cost every insert."""

keys: Final = Table(
    "journal_keys",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    sqlite_with_rowid=False,  # the key is all there is: one tree, not two
)
"""What makes an event known: 16 bytes of topic, source and id (``numbering.event_key``), kept a day longer than it."""

trimmed: Final = Table(
    "journal_trimmed",
    metadata,
    Column("topic_id", BigInteger, nullable=False),
    Column("pos", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("key", LargeBinary, nullable=False),
    time_ms("trimmed_ms"),
    PrimaryKeyConstraint("topic_id", "pos"),
    Index("ix_journal_trimmed_trimmed_ms", "trimmed_ms"),
    sqlite_with_rowid=False,
)
"""The events that went within a day: when their keys may go, and how many of them a reader has missed."""

marks: Final = Table(
    "journal_marks",
    metadata,
    time_ms("time_ms", primary_key=True, autoincrement=False),
    Column("pos", BigInteger, nullable=False),
)
"""How far the journal was at a time: what is trimmed by age is what was recorded before it. The times in the events
are their senders', who may be wrong."""

followers: Final = Table(
    "journal_followers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pos", BigInteger, nullable=False),
)
