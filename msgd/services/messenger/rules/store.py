"""Rules and what they have collected, in the database: functions over an open transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Select, delete, func, select, update

from msgd.database import Database, Transaction
from msgd.errors import Conflict
from msgd.messages import json
from msgd.notifier.interface import Grant
from msgd.services.messenger.owned import REVOKED
from msgd.services.messenger.rules.rule import Rule
from msgd.services.messenger.rules.tables import rule_events, rules

__all__ = ["Database", "Transaction"]

OWNED: Final = 200
"""Rules of one owner: more are made by a program that went wrong."""

ENABLED: Final = 1000
"""Rules that act, of all owners: each is held against every event."""

_LISTS: Final[dict[str, Any]] = {
    "grants": tuple[Grant, ...],
    "topics": tuple[str, ...],
    "types": tuple[str, ...],
    "to": tuple[str, ...],
}
_COLUMNS: Final = tuple(rules.c[name] for name in Rule.__struct_fields__)


def _rule(row: Any) -> Rule:
    lists = {name: msgspec.json.decode(row._mapping[name], type=form) for name, form in _LISTS.items()}
    return Rule(**{**row._mapping, **lists})


def _values(rule: Rule) -> dict[str, Any]:
    values = {name: getattr(rule, name) for name in Rule.__struct_fields__}
    return values | {name: json.encode(values[name]) for name in _LISTS}


def find(transaction: Transaction, id_: str, *, lock: bool = False) -> Rule | None:
    """A rule; ``lock``: until the transaction ends nobody else's to change."""
    query: Select[Any] = select(*_COLUMNS).where(rules.c.id == id_)
    if lock and transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    row = transaction.execute(query).one_or_none()
    return None if row is None else _rule(row)


def locked(transaction: Transaction, ids: Collection[str]) -> dict[str, Rule]:
    """The rules with these ids, locked in the order of their ids."""
    query: Select[Any] = select(*_COLUMNS).where(rules.c.id.in_(sorted(ids))).order_by(rules.c.id)
    if transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    return {row.id: _rule(row) for row in transaction.execute(query)}


def enabled(transaction: Transaction) -> Sequence[Rule]:
    """The rules that act."""
    query = select(*_COLUMNS).where(rules.c.enabled).order_by(rules.c.id).limit(ENABLED)
    return [_rule(row) for row in transaction.execute(query)]


def page(transaction: Transaction, owner: str | None, after: str, limit: int) -> Sequence[Rule]:
    """The next rules by id, that is in the order in which they were made; of one owner, or all."""
    query = select(*_COLUMNS).where(rules.c.id > after)
    if owner is not None:
        query = query.where(rules.c.owner == owner)
    return [_rule(row) for row in transaction.execute(query.order_by(rules.c.id).limit(limit))]


def create(transaction: Transaction, rule: Rule) -> None:
    """Raises Conflict for an owner of too many, and if there are too many in all."""
    owned = select(func.count()).select_from(rules).where(rules.c.owner == rule.owner)
    if transaction.execute(owned).scalar_one() >= OWNED:
        raise Conflict(f"{rule.owner!r} has {OWNED} rules already: delete one first", where="name")
    check_room(transaction, rule)
    transaction.execute(rules.insert().values(**_values(rule)))


def check_room(transaction: Transaction, rule: Rule) -> None:
    """Raises Conflict if one more rule cannot act."""
    acting = select(func.count()).select_from(rules).where(rules.c.enabled, rules.c.id != rule.id)
    if rule.enabled and transaction.execute(acting).scalar_one() >= ENABLED:
        raise Conflict(f"{ENABLED} rules are enabled already: disable one first", where="enabled")


def change(transaction: Transaction, rule: Rule) -> None:
    """Store what a locked rule is like now."""
    transaction.execute(update(rules).where(rules.c.id == rule.id).values(**_values(rule)))


def suspend(transaction: Transaction, owner: str) -> None:
    """Switch off what acts in the name of an owner whose tokens are revoked; what it has collected is not sent."""
    query = select(rules.c.id).where(rules.c.owner == owner, rules.c.enabled)
    for rule in locked(transaction, transaction.execute(query).scalars().all()).values():
        if rule.enabled:
            forget(transaction, rule.id)
            off = replace(
                rule, enabled=False, reason=REVOKED, version=rule.version + 1, digest_due_ms=None, digest_count=0
            )
            change(transaction, off)


def remove(transaction: Transaction, id_: str) -> None:
    """Delete a rule, and what it has collected."""
    transaction.execute(delete(rule_events).where(rule_events.c.rule == id_))
    transaction.execute(delete(rules).where(rules.c.id == id_))


# -- digests -----------------------------------------------------------------------------------------------------------


def collect(transaction: Transaction, rule: str, pos: int, event: bytes) -> None:
    """Keep an event for the digest of a locked rule."""
    transaction.execute(rule_events.insert().values(rule=rule, pos=pos, event=event))


def collection(transaction: Transaction, rule: str) -> Sequence[tuple[int, bytes]]:
    """What a rule has collected, with each pos, in their order."""
    query = select(rule_events.c.pos, rule_events.c.event).where(rule_events.c.rule == rule)
    return [(pos, bytes(event)) for pos, event in transaction.execute(query.order_by(rule_events.c.pos))]


def forget(transaction: Transaction, rule: str) -> None:
    """What a rule has collected was told, or is not wanted any more."""
    transaction.execute(delete(rule_events).where(rule_events.c.rule == rule))


def due(transaction: Transaction, now_ms: int, limit: int) -> Sequence[str]:
    """Rules whose digests are due."""
    query = select(rules.c.id).where(rules.c.digest_due_ms <= now_ms).order_by(rules.c.digest_due_ms).limit(limit)
    return transaction.execute(query).scalars().all()
