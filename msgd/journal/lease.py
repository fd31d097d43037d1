"""The right to write: one row, a number that grows, a time after which others may take it.

The number is the fence: whoever appends shows it, and an old one is refused. The time only spares the others from
taking over too early; clocks that differ by more than the lease's length cost a needless takeover, never a wrong event.
"""

from __future__ import annotations

from sqlalchemy import update

from msgd.database import Transaction
from msgd.journal import tables
from msgd.journal.append import check_lease, lock_head
from msgd.journal.interface import Lease


def acquire(transaction: Transaction, holder: str, now_ms: int, ttl_ms: int) -> Lease | None:
    """See :meth:`Journal.acquire`."""
    head = lock_head(transaction)
    if head.lease_holder not in ("", holder) and head.lease_until_ms > now_ms:
        return None
    lease = Lease(holder, head.lease_number + 1)
    transaction.execute(
        update(tables.head).values(lease_holder=holder, lease_number=lease.number, lease_until_ms=now_ms + ttl_ms)
    )
    return lease


def renew(transaction: Transaction, lease: Lease, now_ms: int, ttl_ms: int) -> None:
    """See :meth:`Journal.renew`."""
    check_lease(lock_head(transaction), lease)
    transaction.execute(update(tables.head).values(lease_until_ms=now_ms + ttl_ms))


def release(transaction: Transaction, lease: Lease) -> None:
    """See :meth:`Journal.release`."""
    transaction.execute(
        update(tables.head)
        .where(tables.head.c.lease_number == lease.number, tables.head.c.lease_holder == lease.holder)
        .values(lease_holder="", lease_until_ms=0)
    )
