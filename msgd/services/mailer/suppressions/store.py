"""Suppressions in the database: functions over an open transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import delete, select

from msgd.database import Database, Transaction
from msgd.database.bulk import insert
from msgd.services.mailer.tables import mail_suppressions

__all__ = ["Database", "Transaction"]


class Suppression(Struct, frozen=True, kw_only=True):
    """An address that gets no mail."""

    email: str
    reason: str  # unsubscribed, bounced, complained, added
    detail: str
    job: str  # which led to it; empty: none
    since_ms: int


_S: Final = mail_suppressions.c
_COLUMNS: Final = tuple(_S[name] for name in Suppression.__struct_fields__)


def suppress(transaction: Transaction, key: str, email: str, reason: str, detail: str, job: str, now_ms: int) -> bool:
    """Send nothing more there; whether that is new. What was the reason before stays."""
    values = {"key": key, "email": email, "reason": reason, "detail": detail, "job": job, "since_ms": now_ms}
    statement = insert(transaction, mail_suppressions).values(**values).on_conflict_do_nothing(index_elements=["key"])
    return transaction.execute(statement.returning(_S.key)).first() is not None


def lift(transaction: Transaction, key: str) -> bool:
    """Send there again; whether it was suppressed."""
    return transaction.execute(delete(mail_suppressions).where(_S.key == key).returning(_S.key)).first() is not None


def find(transaction: Transaction, key: str) -> Suppression | None:
    """One of them."""
    row = transaction.execute(select(*_COLUMNS).where(_S.key == key)).one_or_none()
    return None if row is None else Suppression(**row._mapping)


def page(transaction: Transaction, *, search: str, after: str, limit: int) -> Sequence[Suppression]:
    """The next ones by address; only those that hold ``search``."""
    query = select(*_COLUMNS).where(_S.key > after)
    if search:
        query = query.where(_S.key.contains(search, autoescape=True))
    return [Suppression(**row._mapping) for row in transaction.execute(query.order_by(_S.key).limit(limit))]
