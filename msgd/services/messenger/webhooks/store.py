"""Endpoints and deliveries in the database: functions over an open transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import Select, and_, delete, func, not_, or_, select, update

from msgd.database import Database, Transaction
from msgd.errors import Conflict
from msgd.messages import json
from msgd.messages.events import Event, event_id
from msgd.messages.topics import user_topic
from msgd.messages.wire import format_time
from msgd.services.messenger.owned import REVOKED
from msgd.services.messenger.webhooks.endpoints import DELIVERIES_KEPT, DISABLED, OWNED, Delivery, Endpoint
from msgd.services.messenger.webhooks.sealing import Seal, Unopened
from msgd.services.messenger.webhooks.tables import webhook_deliveries, webhook_endpoints

__all__ = ["Database", "Transaction"]

SOURCE: Final = "webhook"
"""Whose events the notices are: those of the job type."""

_COLUMNS: Final = tuple(webhook_endpoints.c[name] for name in Endpoint.__struct_fields__)
_DELIVERY: Final = tuple(webhook_deliveries.c[name] for name in Delivery.__struct_fields__)


def find(transaction: Transaction, id_: str, *, lock: bool = False) -> Endpoint | None:
    """An endpoint; ``lock``: until the transaction ends nobody else's to change."""
    query: Select[Any] = select(*_COLUMNS).where(webhook_endpoints.c.id == id_)
    if lock and transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    row = transaction.execute(query).one_or_none()
    return None if row is None else Endpoint(**row._mapping)


def page(transaction: Transaction, owner: str | None, after: str, limit: int) -> Sequence[Endpoint]:
    """The next endpoints by id, that is in the order in which they were made; of one owner, or all."""
    query = select(*_COLUMNS).where(webhook_endpoints.c.id > after)
    if owner is not None:
        query = query.where(webhook_endpoints.c.owner == owner)
    rows = transaction.execute(query.order_by(webhook_endpoints.c.id).limit(limit))
    return [Endpoint(**row._mapping) for row in rows]


def create(transaction: Transaction, endpoint: Endpoint) -> None:
    """Raises Conflict for an owner of too many."""
    owned = select(func.count()).select_from(webhook_endpoints).where(webhook_endpoints.c.owner == endpoint.owner)
    if transaction.execute(owned).scalar_one() >= OWNED:
        raise Conflict(f"{endpoint.owner!r} has {OWNED} endpoints already: delete one first", where="url")
    transaction.execute(webhook_endpoints.insert().values(**_values(endpoint)))


def change(transaction: Transaction, endpoint: Endpoint) -> None:
    """Store what a locked endpoint is like now."""
    transaction.execute(
        update(webhook_endpoints).where(webhook_endpoints.c.id == endpoint.id).values(**_values(endpoint))
    )


def suspend(transaction: Transaction, owner: str) -> None:
    """Disable the endpoints of an owner whose tokens are revoked; what is still to be sent to them fails."""
    query = select(webhook_endpoints.c.id).where(webhook_endpoints.c.owner == owner, webhook_endpoints.c.enabled)
    query = query.order_by(webhook_endpoints.c.id)
    if transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    ids = transaction.execute(query).scalars().all()
    off = update(webhook_endpoints).where(webhook_endpoints.c.id.in_(ids)).values(enabled=False, reason=REVOKED)
    transaction.execute(off)


def reseal(transaction: Transaction, seal: Seal, after: str, limit: int) -> tuple[str | None, Sequence[Unopened]]:
    """Seal secrets of the next endpoints by id that are not sealed with the newest key; the id to go on after, None at
    the end, and which could not be opened."""
    table = webhook_endpoints.c
    stale = [
        and_(column != "", not_(column.startswith(seal.beginning, autoescape=True)))
        for column in (table.secret, table.old_secret)
    ]
    query = select(*_COLUMNS).where(table.id > after, or_(*stale)).order_by(table.id).limit(limit)
    if transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    found = [Endpoint(**row._mapping) for row in transaction.execute(query)]
    unopened = []
    for endpoint in found:
        try:
            secrets = (seal.opened(one, endpoint.id) for one in (endpoint.secret, endpoint.old_secret))
            secret, old = (seal.closed(one, endpoint.id) for one in secrets)
        except Unopened as error:
            unopened.append(error)
        else:
            change(transaction, replace(endpoint, secret=secret, old_secret=old))
    return (found[-1].id if len(found) == limit else None), unopened


def remove(transaction: Transaction, id_: str) -> None:
    """Delete an endpoint and its deliveries."""
    transaction.execute(delete(webhook_deliveries).where(webhook_deliveries.c.endpoint == id_))
    transaction.execute(delete(webhook_endpoints).where(webhook_endpoints.c.id == id_))


def deliveries(transaction: Transaction, id_: str, limit: int) -> Sequence[Delivery]:
    """The last tries, the newest first."""
    query = select(*_DELIVERY).where(webhook_deliveries.c.endpoint == id_)
    rows = transaction.execute(query.order_by(webhook_deliveries.c.id.desc()).limit(limit))
    return [Delivery(**row._mapping) for row in rows]


def tried(transaction: Transaction, delivery: Delivery, *, gone: bool, patience_ms: int) -> Event | None:
    """Keep what came of a try, and of the endpoint: ``gone``: its receiver wants no more; ``patience_ms``: for which
    it may fail before nothing is sent to it any more. Then the event is returned that tells its owner."""
    endpoint = find(transaction, delivery.endpoint, lock=True)
    if endpoint is None:
        return None  # deleted meanwhile
    row = {name: getattr(delivery, name) for name in Delivery.__struct_fields__}
    transaction.execute(webhook_deliveries.insert().values(**row))
    _forget_old(transaction, endpoint.id)
    table = webhook_endpoints
    changes: dict[str, Any] = {}
    notice: Event | None = None
    since = delivery.time_ms if endpoint.failing_since_ms is None else endpoint.failing_since_ms
    if delivery.delivered:
        changes["failing_since_ms"] = None
    else:
        changes["failing_since_ms"] = since
        if endpoint.enabled and (gone or delivery.time_ms - since >= patience_ms):
            days = patience_ms / 86_400_000
            reason = "its receiver answered 410 Gone" if gone else f"every try of {days:g} days failed"
            changes |= {"enabled": False, "reason": reason}
            notice = _disabled(endpoint, reason, delivery)
    if any(getattr(endpoint, name) != value for name, value in changes.items()):
        transaction.execute(update(table).where(table.c.id == endpoint.id).values(**changes))
    return notice


def _forget_old(transaction: Transaction, id_: str) -> None:
    table = webhook_deliveries.c
    oldest = (
        select(table.id)
        .where(table.endpoint == id_)
        .order_by(table.id.desc())
        .offset(DELIVERIES_KEPT)
        .limit(1)
        .scalar_subquery()
    )
    transaction.execute(delete(webhook_deliveries).where(table.endpoint == id_, table.id <= oldest))


def _disabled(endpoint: Endpoint, reason: str, last: Delivery) -> Event | None:
    """The notice for the owner."""
    if not endpoint.owner:
        return None
    data = {
        # What the dashboard shows of an event, and where a click on it leads.
        "title": "A webhook is disabled",
        "text": f"{endpoint.url}: {reason}",
        "url": f"/webhooks/{endpoint.id}",
        "endpoint": endpoint.id,
        "receiver": endpoint.url,
        "reason": reason,
        "error": last.error,
        "failing_since": format_time(last.time_ms if endpoint.failing_since_ms is None else endpoint.failing_since_ms),
    }
    return Event(
        topic=user_topic(endpoint.owner),
        type=DISABLED,
        id=event_id(endpoint.id, last.time_ms, DISABLED, last.job),
        source=SOURCE,
        time_ms=last.time_ms,
        data=json.encode(data),
    )


def _values(endpoint: Endpoint) -> dict[str, Any]:
    return {name: getattr(endpoint, name) for name in Endpoint.__struct_fields__}
