"""Job types: what is performed here, and what is paused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import select, update

from msgd.database import Transaction
from msgd.database.bulk import insert
from msgd.errors import NotFound
from msgd.jobs.core import Core
from msgd.jobs.interface import Need, TypeInfo
from msgd.jobs.tables import job_types

_COLUMNS: Final = (
    job_types.c.name,
    job_types.c.summary,
    job_types.c.schema,
    job_types.c.results,
    job_types.c.needs,
    job_types.c.paused,
)


class Types(Core):
    """The part of :class:`~msgd.jobs.interface.Jobs` about job types."""

    async def announce(self, info: TypeInfo) -> None:
        described = {
            "summary": info.summary,
            "schema": info.schema,
            "results": msgspec.json.encode(info.results),
            "needs": msgspec.json.encode(info.needs),
        }

        def change(transaction: Transaction) -> None:
            statement = insert(transaction, job_types).values(name=info.name, paused=info.paused, **described)
            transaction.execute(statement.on_conflict_do_update(index_elements=["name"], set_=described))

        await self._database.write(change)

    async def types(self) -> Sequence[TypeInfo]:
        query = select(*_COLUMNS).order_by(job_types.c.name)
        return [_info(row) for row in await self._database.read(lambda transaction: transaction.execute(query).all())]

    async def pause(self, type_: str, paused: bool) -> TypeInfo:
        def change(transaction: Transaction) -> TypeInfo | None:
            transaction.execute(update(job_types).where(job_types.c.name == type_).values(paused=paused))
            row = transaction.execute(select(*_COLUMNS).where(job_types.c.name == type_)).one_or_none()
            return None if row is None else _info(row)

        info = await self._database.write(change)
        if info is None:
            raise NotFound(f"no worker has announced the job type {type_[:80]!r}", where="type")
        return info


def _info(row: Any) -> TypeInfo:
    return TypeInfo(
        name=row.name,
        summary=row.summary,
        schema=row.schema,
        results=msgspec.json.decode(row.results, type=tuple[str, ...]),
        needs=msgspec.json.decode(row.needs, type=tuple[Need, ...]),
        paused=row.paused,
    )
