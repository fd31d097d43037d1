"""The journal over the database toolkit, on SQLite or PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, overload

from sqlalchemy import insert, select, update
from sqlalchemy.exc import DataError, DBAPIError

from msgd.database import Database, Transaction
from msgd.database.direct import FEW
from msgd.errors import InvalidInput
from msgd.journal import gaps, history, retention, tables
from msgd.journal import lease as leases
from msgd.journal.append import Memory, Within, append, append_ahead, lock_head, was_in_vain
from msgd.journal.interface import Appended, HeadState, Lease, Page, Resume, Retention, TopicInfo
from msgd.journal.numbering import TopicState
from msgd.journal.statements import Head
from msgd.messages.cursors import Cursor
from msgd.messages.events import Event
from msgd.messages.topics import check_topic

W = TypeVar("W")

FEW_BYTES: Final = 256 * 1024
"""Of the data of a batch that is sent from the reactor's thread, beside which nothing else is done: a millisecond."""

_HEAD: Final = select(tables.head.c.epoch, tables.head.c.pos, tables.head.c.live_pos)


class SQLJournal:
    """Implements :class:`~msgd.journal.interface.Journal`."""

    def __init__(
        self,
        database: Database,
        *,
        now_ms: Callable[[], int],
        new_epoch: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """``now_ms``: milliseconds since 1970; ``new_epoch``: makes the random id of a life of the journal."""
        self._database = database
        self._now_ms = now_ms
        self._new_epoch = new_epoch
        self._memory = Memory()

    # -- the one writer -----------------------------------------------------------------------------------------------

    async def acquire(self, holder: str, *, ttl_ms: int) -> Lease | None:
        return await self._database.write(
            lambda transaction: leases.acquire(transaction, holder, self._now_ms(), ttl_ms),
        )

    async def renew(self, lease: Lease, *, ttl_ms: int) -> None:
        await self._database.write(lambda transaction: leases.renew(transaction, lease, self._now_ms(), ttl_ms))

    async def release(self, lease: Lease) -> None:
        await self._database.write(lambda transaction: leases.release(transaction, lease))

    @overload
    async def append(
        self, lease: Lease, events: Sequence[Event], *, live_pos: int | None = None, within: Within[W]
    ) -> Appended[W]: ...

    @overload
    async def append(
        self, lease: Lease, events: Sequence[Event], *, live_pos: int | None = None, within: None = None
    ) -> Appended[None]: ...

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        *,
        live_pos: int | None = None,
        within: Within[W] | None = None,
    ) -> Appended[W] | Appended[None]:
        try:
            try:
                appended, topics, head = await self._append(lease, events, live_pos, within)
            except DBAPIError as error:
                if not was_in_vain(error):
                    raise
                self._memory.doubt(error)
                appended, topics, head = await self._append(lease, events, live_pos, within)
        except BaseException as error:  # cancelled too: it may have been stored, so what is remembered may be wrong
            self._memory.forget()
            if isinstance(error, DataError):
                raise InvalidInput(f"the database refuses an event of the batch: {error.orig}") from error
            raise
        # Known events come in swarms, after a lost connection: until they are through, each batch asks.
        self._memory.remember(lease, topics, None if appended.known else head)
        return appended

    async def _append(
        self, lease: Lease, events: Sequence[Event], live_pos: int | None, within: Within[W] | None
    ) -> tuple[Appended[W], dict[str, TopicState], Head]:
        topics = self._memory.under(lease)
        ahead = self._memory.ahead(lease, events) if self._database.dialect == "postgresql" else None
        if ahead is None:
            return await self._database.write(
                lambda transaction: append(transaction, lease, events, topics, live_pos, within)
            )
        few = len(events) <= FEW and sum(len(event.data) for event in events) <= FEW_BYTES
        store = self._database.tell if few else self._database.write
        return await store(
            lambda transaction: append_ahead(transaction, lease, events, topics, ahead, live_pos, within)
        )

    async def lived(self, lease: Lease, pos: int) -> None:
        await self._database.write(lambda transaction: append(transaction, lease, (), {}, pos, None))

    # -- readers ------------------------------------------------------------------------------------------------------

    async def head(self) -> HeadState:
        return await self._database.read(lambda transaction: HeadState(*transaction.execute(_HEAD).one()))

    async def resume(self, patterns: Sequence[str], since: Cursor | None) -> Resume:
        return await self._database.read(lambda transaction: gaps.resume(transaction, patterns, since))

    async def read(self, patterns: Sequence[str], *, after: int, limit: int, upto: int | None = None) -> Page:
        return await self._database.read(
            lambda transaction: history.read(transaction, patterns, after, limit, upto),
        )

    async def read_back(self, patterns: Sequence[str], *, before: int, limit: int) -> Page:
        return await self._database.read(lambda transaction: history.read_back(transaction, patterns, before, limit))

    async def topics(self, pattern: str, *, after: str = "", limit: int = 100) -> Sequence[TopicInfo]:
        return await self._database.read(lambda transaction: history.topics(transaction, pattern, after, limit))

    # -- followers ----------------------------------------------------------------------------------------------------

    async def follower(self, name: str) -> int:
        return await self._database.write(lambda transaction: _follower(transaction, name))

    def advance(self, transaction: Transaction, name: str, expected: int, pos: int) -> bool:
        moved = transaction.execute(
            update(tables.followers)
            .where(tables.followers.c.name == name, tables.followers.c.pos == expected)
            .values(pos=pos)
        )
        return moved.rowcount == 1

    # -- retention ----------------------------------------------------------------------------------------------------

    async def trim(self, rules: Sequence[Retention], *, limit: int = 5000) -> int:
        now_ms = self._now_ms()
        cuts = await self._database.read(lambda transaction: retention.cuts(transaction, rules, now_ms, limit))

        def trim(transaction: Transaction) -> int:
            retention.mark(transaction, rules, now_ms)
            retention.forget(transaction, now_ms, 2 * limit)  # what goes now is more than what came a day ago
            return retention.remove(transaction, cuts, now_ms, limit)

        return await self._database.write(trim)

    async def erase(self, topic: str) -> int:
        check_topic(topic)
        cut = await self._database.read(lambda transaction: retention.whole(transaction, topic))
        if cut is None:
            return 0
        limit = retention.ERASED_AT_A_TIME

        def erase(transaction: Transaction) -> int:
            return retention.remove(transaction, [cut], self._now_ms(), limit, erased=True)

        erased = gone = await self._database.write(erase)
        while gone == limit:
            gone = await self._database.write(erase)
            erased += gone
        return erased

    async def renew_epoch(self) -> str:
        epoch = self._new_epoch()
        await self._database.write(lambda transaction: transaction.execute(update(tables.head).values(epoch=epoch)))
        return epoch


def _follower(transaction: Transaction, name: str) -> int:
    """The follower's position; the head is locked, so that two that are new agree."""
    head = lock_head(transaction)
    pos: int | None = transaction.scalar(select(tables.followers.c.pos).where(tables.followers.c.name == name))
    if pos is None:
        transaction.execute(insert(tables.followers).values(name=name, pos=head.pos))
        return int(head.pos)
    return pos
