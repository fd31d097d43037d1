"""Uploads over the database toolkit, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import case, delete, exists, or_, select, update

from msgd.blobs.interface import DELETING_MS, HOLD_MS, NO_QUOTA, Picture, Quota, Upload, Usage
from msgd.blobs.tables import marks, pictures, uploads, usage
from msgd.database import Database, Transaction
from msgd.database.bulk import insert
from msgd.errors import NotFound, StorageUnavailable

T = TypeVar("T")

AGAIN_S: Final = 2.0
"""After which a blob that was being deleted can be stored again: deleting takes milliseconds."""

_UPLOAD: Final = tuple(uploads.c[name] for name in Upload.__struct_fields__)
_PICTURE: Final = tuple(pictures.c[name] for name in Picture.__struct_fields__)


class SqlUploads:
    """Implements :class:`~msgd.blobs.interface.Uploads`."""

    def __init__(self, database: Database, *, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms

    async def hold(self, blob: str) -> None:
        await self._database.write(partial(_hold, blob=blob, now_ms=self._now_ms()))

    async def make(self, made: Sequence[Upload], write: Callable[[Transaction], T], *, quota: Quota = NO_QUOTA) -> T:
        def change(transaction: Transaction) -> T:
            _make(transaction, made, quota)
            return write(transaction)

        return await self._database.write(change)

    async def usage(self, owner: str) -> Usage:
        query = select(usage.c.bytes, usage.c.files).where(usage.c.owner == owner)
        row = await self._database.read(lambda transaction: transaction.execute(query).one_or_none())
        return Usage() if row is None else Usage(*row)

    async def get(self, id_: str) -> Upload:
        found = await self._database.read(lambda transaction: _find(transaction, id_))
        if found is None:
            raise _unknown(id_)
        return found

    async def list(self, owner: str, *, before: str = "", limit: int = 50) -> Sequence[Upload]:
        query = select(*_UPLOAD).order_by(uploads.c.id.desc()).limit(limit)
        if owner:
            query = query.where(uploads.c.owner == owner)
        if before:
            query = query.where(uploads.c.id < before)
        return await self._database.read(
            lambda transaction: [Upload(**row._mapping) for row in transaction.execute(query)]
        )

    async def pictures(self, ids: Sequence[str]) -> dict[str, Sequence[Picture]]:
        return await self._database.read(lambda transaction: _pictures(transaction, ids))

    async def add(self, id_: str, pictures: Sequence[Picture]) -> Sequence[Picture]:
        return await self._database.write(lambda transaction: _add(transaction, id_, pictures))

    async def delete(self, id_: str) -> None:
        now_ms = self._now_ms()
        if not await self._database.write(lambda transaction: _delete(transaction, id_, now_ms)):
            raise _unknown(id_)

    async def old(self, before_ms: int, *, limit: int = 100) -> Sequence[str]:
        query = select(uploads.c.id).where(uploads.c.needed_ms < before_ms)
        query = query.order_by(uploads.c.needed_ms, uploads.c.id).limit(limit)
        return await self._database.read(lambda transaction: transaction.execute(query).scalars().all())

    async def needed(self, ids: Collection[str]) -> None:
        now_ms = self._now_ms()
        statement = update(uploads).where(uploads.c.id.in_(sorted(ids))).values(needed_ms=now_ms)
        await self._database.write(lambda transaction: transaction.execute(statement))

    async def expire(self, ids: Collection[str], before_ms: int) -> int:
        return await self._database.write(partial(_expire, ids=sorted(ids), before_ms=before_ms, now_ms=self._now_ms()))

    async def unused(self, limit: int = 100) -> Sequence[str]:
        return await self._database.write(partial(_unused, now_ms=self._now_ms(), limit=limit))

    async def gone(self, blobs: Sequence[str]) -> None:
        statement = delete(marks).where(marks.c.blob.in_(list(blobs)), marks.c.deleting)
        await self._database.write(lambda transaction: transaction.execute(statement))


def _make(transaction: Transaction, made: Sequence[Upload], quota: Quota) -> None:
    rows = [
        {name: getattr(one, name) for name in Upload.__struct_fields__} | {"needed_ms": one.created_ms} for one in made
    ]
    if rows:
        more = Usage(sum(one.size for one in made), len(made))
        now = _use(transaction, made[0].owner, more)
        quota.check(Usage(now.bytes - more.bytes, now.files - more.files), more)
        transaction.execute(uploads.insert(), rows)


def _use(transaction: Transaction, owner: str, more: Usage) -> Usage:
    """Add to what an owner has; what that is now. Nobody else changes it until the transaction ends."""
    statement = insert(transaction, usage).values(owner=owner, bytes=more.bytes, files=more.files)
    added = statement.on_conflict_do_update(
        index_elements=["owner"],
        set_={"bytes": usage.c.bytes + more.bytes, "files": usage.c.files + more.files},
    ).returning(usage.c.bytes, usage.c.files)
    return Usage(*transaction.execute(added).one())


def _find(transaction: Transaction, id_: str, *, lock: bool = False) -> Upload | None:
    query = select(*_UPLOAD).where(uploads.c.id == id_)
    if lock and transaction.dialect.name == "postgresql":
        query = query.with_for_update()
    row = transaction.execute(query).one_or_none()
    return None if row is None else Upload(**row._mapping)


def _pictures(transaction: Transaction, ids: Sequence[str]) -> dict[str, Sequence[Picture]]:
    found: dict[str, Sequence[Picture]] = {id_: [] for id_ in ids}
    query = select(pictures.c.upload, *_PICTURE).where(pictures.c.upload.in_(list(ids))).order_by(pictures.c.name)
    for upload, *values in transaction.execute(query):
        found[upload] = [*found[upload], Picture(**dict(zip(Picture.__struct_fields__, values, strict=True)))]
    return found


def _hold(transaction: Transaction, blob: str, now_ms: int) -> None:
    until_ms = now_ms + HOLD_MS
    statement = insert(transaction, marks).values(blob=blob, until_ms=until_ms, deleting=False)
    later = case((marks.c.until_ms < until_ms, until_ms), else_=marks.c.until_ms)
    held = statement.on_conflict_do_update(
        index_elements=["blob"],
        set_={"until_ms": case((marks.c.deleting, until_ms), else_=later), "deleting": False},
        where=or_(~marks.c.deleting, marks.c.until_ms <= now_ms),  # else its deleter is still at it
    ).returning(marks.c.blob)
    if transaction.execute(held).first() is None:
        raise StorageUnavailable("the same content is just being deleted: send it again", retry_after=AGAIN_S)


def _mark(transaction: Transaction, blobs: set[str], now_ms: int) -> None:
    """Have blobs looked at, those that are held when that is over."""
    if blobs:
        rows = [{"blob": blob, "until_ms": now_ms, "deleting": False} for blob in sorted(blobs)]
        transaction.execute(insert(transaction, marks).on_conflict_do_nothing(index_elements=["blob"]), rows)


def _add(transaction: Transaction, id_: str, given: Sequence[Picture]) -> Sequence[Picture]:
    if _find(transaction, id_, lock=True) is None:
        raise _unknown(id_)
    rows = [{"upload": id_, **{name: getattr(one, name) for name in Picture.__struct_fields__}} for one in given]
    if rows:
        statement = insert(transaction, pictures).on_conflict_do_nothing(index_elements=["upload", "name"])
        transaction.execute(statement, rows)
    return _pictures(transaction, [id_])[id_]


def _delete(transaction: Transaction, id_: str, now_ms: int) -> bool:
    found = _find(transaction, id_, lock=True)
    if found is None:
        return False
    _forget(transaction, [found], now_ms)
    return True


def _expire(transaction: Transaction, ids: Sequence[str], before_ms: int, now_ms: int) -> int:
    query = select(*_UPLOAD).where(uploads.c.id.in_(ids), uploads.c.needed_ms < before_ms)
    if transaction.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    found = [Upload(**row._mapping) for row in transaction.execute(query)]
    _forget(transaction, found, now_ms)
    return len(found)


def _forget(transaction: Transaction, found: Sequence[Upload], now_ms: int) -> None:
    """Delete the rows of locked uploads. Their blobs go later (``sweeping``): what is shown is always there."""
    ids = [one.id for one in found]
    made = _pictures(transaction, ids)
    _mark(transaction, {one.blob for one in found} | {one.blob for some in made.values() for one in some}, now_ms)
    transaction.execute(delete(pictures).where(pictures.c.upload.in_(ids)))
    transaction.execute(delete(uploads).where(uploads.c.id.in_(ids)))
    # The uploads first, then their owners, in one order: so that nobody waits for whoever waits for him.
    for owner in sorted({one.owner for one in found}):
        mine = [one for one in found if one.owner == owner]
        left = _use(transaction, owner, Usage(-sum(one.size for one in mine), -len(mine)))
        if not left.files:
            transaction.execute(delete(usage).where(usage.c.owner == owner))


def _unused(transaction: Transaction, now_ms: int, limit: int) -> Sequence[str]:
    query = select(marks.c.blob).where(marks.c.until_ms <= now_ms).order_by(marks.c.until_ms).limit(limit)
    if transaction.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    due = list(transaction.execute(query).scalars())
    # In a statement after the lock, so that on PostgreSQL it sees what was committed before it.
    referred = or_(exists().where(uploads.c.blob == marks.c.blob), exists().where(pictures.c.blob == marks.c.blob))
    used = set(transaction.execute(select(marks.c.blob).where(marks.c.blob.in_(due), referred)).scalars())
    unused = [blob for blob in due if blob not in used]
    transaction.execute(delete(marks).where(marks.c.blob.in_(sorted(used))))
    transaction.execute(
        update(marks).where(marks.c.blob.in_(unused)).values(deleting=True, until_ms=now_ms + DELETING_MS)
    )
    return unused


def _unknown(id_: str) -> NotFound:
    return NotFound(f"there is no upload {id_[:80]!r}", where="id")
