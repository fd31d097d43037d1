"""Revocations in the database: functions over an open transaction, for ``Database.read`` and ``write``."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, case, delete, func, select

from msgd.database import Database, Transaction
from msgd.database.bulk import insert
from msgd.notifier.auth.revoked import Revocation, Revoked
from msgd.notifier.auth.tables import revocations

__all__ = ["Database", "Transaction", "add_revocation", "lift_revocation", "list_revocations", "read_revoked"]


def read_revoked(transaction: Transaction, known: Revoked, now_ms: int) -> Revoked:
    """All revocations that still concern somebody; ``known`` itself, if nothing has changed since it was read."""
    table = revocations.c
    # A row that is added, renewed, lifted or outlived changes one of these.
    statement = select(func.count(), func.sum(table.revoked_ms), func.sum(table.until_ms))
    counted = transaction.execute(statement.where(table.until_ms > now_ms)).one()
    version = tuple(int(one or 0) for one in counted)
    return known if known.version == version else Revoked(list_revocations(transaction, now_ms), version)


def list_revocations(transaction: Transaction, now_ms: int, limit: int | None = None) -> Sequence[Revocation]:
    """Those that still concern somebody, the newest first."""
    table = revocations.c
    statement = (
        select(table.kind, table.value, table.revoked_ms, table.until_ms)
        .where(table.until_ms > now_ms)
        .order_by(table.revoked_ms.desc(), table.kind, table.value)
        .limit(limit)
    )
    return [Revocation(*row) for row in transaction.execute(statement)]


def add_revocation(transaction: Transaction, given: Revocation) -> Revocation:
    """Store it, and forget those that are over; returns what holds now: the later of two moments, the longer of two
    times."""
    table = revocations.c
    transaction.execute(delete(revocations).where(table.until_ms <= given.revoked_ms))
    statement = insert(transaction, revocations).values(
        kind=given.kind, value=given.value, revoked_ms=given.revoked_ms, until_ms=given.until_ms
    )
    later, longer = (
        case((table[name] < statement.excluded[name], statement.excluded[name]), else_=table[name])
        for name in ("revoked_ms", "until_ms")
    )
    row = transaction.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "value"], set_={"revoked_ms": later, "until_ms": longer}
        ).returning(table.kind, table.value, table.revoked_ms, table.until_ms)
    ).one()
    return Revocation(*row)


def lift_revocation(transaction: Transaction, kind: str, value: str) -> bool:
    """Take a revocation back; whether there was one."""
    table = revocations.c
    statement = delete(revocations).where(and_(table.kind == kind, table.value == value)).returning(table.kind)
    return transaction.execute(statement).first() is not None
