"""Rooms and members in the database: functions over an open transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Select, and_, delete, func, select, update

from msgd.database import Database, Transaction
from msgd.database.bulk import insert
from msgd.errors import Conflict
from msgd.notifier.rooms.interface import MEMBERS, ROOMS_OWNED, Closed, Member, Room
from msgd.notifier.rooms.tables import room_members, rooms

__all__ = ["Database", "Transaction"]

_COLUMNS: Final = tuple(rooms.c[name] for name in Room.__struct_fields__)

# -- reading ----------------------------------------------------------------------------------------------------------


def find(transaction: Transaction, name: str, *, lock: bool = False) -> Room | None:
    """A room; ``lock``: until the transaction ends nobody else's to change."""
    query: Select[tuple[object, ...]] = select(*_COLUMNS).where(rooms.c.name == name)
    if lock and transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    row = transaction.execute(query).one_or_none()
    return None if row is None else Room(**row._mapping)


def list_rooms(transaction: Transaction, after: str, limit: int, sub: str) -> Sequence[tuple[Room, bool]]:
    """The next rooms by name, each with whether ``sub`` is a member."""
    membership = and_(room_members.c.room == rooms.c.name, room_members.c.sub == sub)
    query = (
        select(room_members.c.sub, *_COLUMNS)
        .select_from(rooms.outerjoin(room_members, membership))
        .where(rooms.c.name > after)
        .order_by(rooms.c.name)
        .limit(limit)
    )
    found = []
    for member, *values in transaction.execute(query):
        found.append((Room(**dict(zip(Room.__struct_fields__, values, strict=True))), member is not None))
    return found


def list_members(transaction: Transaction, name: str, after: str, limit: int) -> Sequence[Member]:
    """The next members of a room, by sub."""
    table = room_members.c
    query = select(table.sub, table.since_ms).where(table.room == name, table.sub > after)
    return [Member(*row) for row in transaction.execute(query.order_by(table.sub).limit(limit))]


def is_member(transaction: Transaction, name: str, sub: str) -> bool:
    table = room_members.c
    query = select(table.sub).where(table.room == name, table.sub == sub)
    return transaction.execute(query).first() is not None


def closed_rooms(transaction: Transaction, names: Iterable[str] | None = None) -> dict[str, Closed]:
    """Private rooms with their members; of ``names``, or all."""
    query = select(rooms.c.name, rooms.c.version).where(rooms.c.private)
    members = select(room_members.c.room, room_members.c.sub).join(rooms).where(rooms.c.private)
    if names is not None:
        given = sorted(names)
        query, members = query.where(rooms.c.name.in_(given)), members.where(rooms.c.name.in_(given))
    found: dict[str, set[str]] = {}
    versions = {row.name: row.version for row in transaction.execute(query)}
    for name, sub in transaction.execute(members):
        found.setdefault(name, set()).add(sub)
    return {name: Closed(version, frozenset(found.get(name, ()))) for name, version in versions.items()}


def closed_mark(transaction: Transaction) -> tuple[int, int]:
    """What every change of a private room, or of its members, makes another."""
    counted = transaction.execute(select(func.count(), func.sum(rooms.c.version)).where(rooms.c.private)).one()
    return int(counted[0]), int(counted[1] or 0)


def closed_versions(transaction: Transaction) -> dict[str, int]:
    """The versions of all private rooms."""
    query = select(rooms.c.name, rooms.c.version).where(rooms.c.private)
    return {row.name: row.version for row in transaction.execute(query)}


# -- changing ---------------------------------------------------------------------------------------------------------


def create(transaction: Transaction, room: Room, members: Iterable[str]) -> bool:
    """A new room, its owner among its members; False if there is one of this name. Raises Conflict for an owner of too
    many."""
    owned = select(func.count()).select_from(rooms).where(rooms.c.owner == room.owner)
    if transaction.execute(owned).scalar_one() >= ROOMS_OWNED:
        raise Conflict(f"{room.owner!r} has {ROOMS_OWNED} rooms already: delete one first", where="name")
    values = {name: getattr(room, name) for name in Room.__struct_fields__}
    statement = insert(transaction, rooms).values(**values).on_conflict_do_nothing(index_elements=["name"])
    if transaction.execute(statement.returning(rooms.c.name)).first() is None:
        return False
    _add(transaction, room.name, {room.owner, *members}, room.created_ms)
    return True


def describe(transaction: Transaction, room: Room, now_ms: int) -> Room:
    """Store what a locked room is like now; returns it with its new version."""
    after = replace(room, version=max(room.version + 1, now_ms))
    transaction.execute(
        update(rooms)
        .where(rooms.c.name == room.name)
        .values(title=after.title, description=after.description, private=after.private, version=after.version)
    )
    return after


def add_members(transaction: Transaction, room: Room, subs: Iterable[str], now_ms: int) -> Sequence[str]:
    """Put them into a locked room; those that were not members, in order. Raises Conflict if they are too many."""
    table = room_members.c
    given = sorted(set(subs))
    known = set(transaction.execute(select(table.sub).where(table.room == room.name, table.sub.in_(given))).scalars())
    new = [sub for sub in given if sub not in known]
    if new:
        count = select(func.count()).select_from(room_members).where(table.room == room.name)
        if transaction.execute(count).scalar_one() + len(new) > MEMBERS:
            raise Conflict(f"a room has at most {MEMBERS} members", where="members")
        _add(transaction, room.name, new, now_ms)
        describe(transaction, room, now_ms)
    return new


def drop_members(transaction: Transaction, room: Room, subs: Iterable[str], now_ms: int) -> Sequence[str]:
    """Put them out of a locked room; those that were members, in order."""
    table = room_members.c
    statement = delete(room_members).where(table.room == room.name, table.sub.in_(sorted(set(subs))))
    gone = sorted(transaction.execute(statement.returning(table.sub)).scalars())
    if gone:
        describe(transaction, room, now_ms)
    return gone


def members_but(transaction: Transaction, name: str, subs: Iterable[str]) -> Sequence[str]:
    """The members of a room that are not among ``subs``."""
    table = room_members.c
    return sorted(set(transaction.execute(select(table.sub).where(table.room == name)).scalars()) - set(subs))


def remove(transaction: Transaction, name: str) -> None:
    """Delete a room."""
    transaction.execute(delete(room_members).where(room_members.c.room == name))
    transaction.execute(delete(rooms).where(rooms.c.name == name))


def _add(transaction: Transaction, name: str, subs: Iterable[str], now_ms: int) -> None:
    transaction.execute(
        room_members.insert(), [{"room": name, "sub": sub, "since_ms": now_ms} for sub in sorted(set(subs))]
    )
