"""Which entries of a feed were published on a topic. Blocking, in a database thread.

What a feed lists is remembered, and what it has listed in the last 30 days, as some feeds show an entry, leave it out
and show it again; of one feed at most :data:`KEPT` entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

from sqlalchemy import LargeBinary, delete, func, select, update

from msgd.database import Transaction
from msgd.database.bulk import insert, rows_of
from msgd.services.messenger.feeds.tables import feed_entries, feeds

DAY_MS: Final = 86_400_000

GONE_MS: Final = 30 * DAY_MS
"""After which an entry that is not listed any more is forgotten."""

UNREAD_MS: Final = 90 * DAY_MS
"""After which a feed that nobody reads any more is forgotten."""

KEPT: Final = 5000
"""Entries of one feed: five times what is read of one document."""


def digest(*parts: str) -> bytes:
    """A hash that keeps its parts apart."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        found.update(len(encoded).to_bytes(4, "big"))
        found.update(encoded)
    return found.digest()


def seen(transaction: Transaction, feed: bytes, entries: Collection[bytes]) -> set[bytes]:
    """Those of the entries that were published."""
    if not entries:
        return set()
    given = rows_of(transaction, {"entry": LargeBinary()}, [(entry,) for entry in sorted(entries)])
    query = select(feed_entries.c.entry).where(
        feed_entries.c.feed == feed, feed_entries.c.entry.in_(select(given.c.entry))
    )
    return {bytes(entry) for entry in transaction.execute(query).scalars()}


def asked(transaction: Transaction, feed: bytes, now_ms: int) -> None:
    """Remember that the feed is read, though it said nothing new; forget feeds that nobody reads."""
    read = insert(transaction, feeds).values(id=feed, read_ms=now_ms)
    transaction.execute(read.on_conflict_do_update(index_elements=["id"], set_={"read_ms": now_ms}))
    transaction.execute(delete(feeds).where(feeds.c.read_ms < now_ms - UNREAD_MS))


def _still_listed(transaction: Transaction, feed: bytes) -> None:
    """What the feed listed last counts as listed until it was read last: it said since then that nothing is new."""
    read_ms = transaction.scalar(select(feeds.c.read_ms).where(feeds.c.id == feed))
    mine = feed_entries.c.feed == feed
    last_ms = transaction.scalar(select(func.max(feed_entries.c.listed_ms)).where(mine))
    if read_ms is not None and last_ms is not None and read_ms >= last_ms + DAY_MS:
        # ``listed_ms`` is exact to the day.
        listed = update(feed_entries).where(mine, feed_entries.c.listed_ms >= last_ms - DAY_MS)
        transaction.execute(listed.values(listed_ms=read_ms))


def saw(transaction: Transaction, feed: bytes, entries: Collection[bytes], now_ms: int) -> None:
    """Remember what the feed lists now; forget what it has not listed for long."""
    _still_listed(transaction, feed)
    asked(transaction, feed, now_ms)
    if not entries:
        return
    listed = insert(transaction, feed_entries)
    values = [{"feed": feed, "entry": entry, "listed_ms": now_ms} for entry in sorted(entries)]
    transaction.execute(
        listed.on_conflict_do_update(
            index_elements=["feed", "entry"],
            set_={"listed_ms": now_ms},
            where=feed_entries.c.listed_ms < now_ms - DAY_MS,  # most polls write nothing
        ),
        values,
    )
    mine = feed_entries.c.feed == feed
    transaction.execute(delete(feed_entries).where(mine, feed_entries.c.listed_ms < now_ms - GONE_MS))
    newest = select(feed_entries.c.entry).where(mine).order_by(feed_entries.c.listed_ms.desc(), feed_entries.c.entry)
    beyond = newest.offset(KEPT).limit(KEPT)
    transaction.execute(delete(feed_entries).where(mine, feed_entries.c.entry.in_(beyond)))
