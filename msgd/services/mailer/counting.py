"""How many recipients of a mailing are in each state, counted once for all who look at about the same time.

To count a hundred thousand took 35–95 ms on SQLite and 65–100 on PostgreSQL, on a busy machine (an index over the
states would make it 6–11 on SQLite, and each of the two changes of a row half as much again dearer). So what was
counted is shown for a while, the longer the more there is to count: however many look, the database is at it for a part
of the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from msgspec import Struct

from msgd.services.mailer.ledger import MailingRow
from msgd.services.mailer.store import Database, Transaction, counts, find_mailing
from msgd.work.once import Once

SHARE: Final = 0.05
"""Of the time, for counting one mailing."""

REMEMBERED: Final = 100
"""Mailings, the last that were looked at."""


class Counted(Struct, frozen=True):
    """What there is of a mailing; None: it has not begun."""

    mailing: MailingRow | None
    states: Mapping[str, int]


class _Look(Struct):
    """One count: under way, or made."""

    made: Once
    counted: Counted | None = None
    until_s: float = 0.0


class Counting:
    """The counts of the mailings of a process."""

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s
        self._looks: OrderedDict[str, _Look] = OrderedDict()  # by job

    async def of(self, job: str, *, anew: bool) -> Counted:
        """The counts of a job's mailing. ``anew``: as they are now, for a job that has ended."""
        look = self._looks.get(job)
        if not anew and look is not None:
            if not look.made.happened:
                await look.made.wait()
            if look.counted is not None and self._now_s() < look.until_s:
                return look.counted
        return await self._count(job)

    def forget(self, job: str) -> None:
        """Something has changed that whoever looks next is to see."""
        self._looks.pop(job, None)

    async def _count(self, job: str) -> Counted:
        look = self._looks[job] = _Look(Once())
        self._looks.move_to_end(job)
        if len(self._looks) > REMEMBERED:
            self._looks.popitem(last=False)
        began_s = self._now_s()
        try:
            found = await self._database.read(partial(_count, job=job))
            look.counted = found
            return found
        finally:
            ended_s = self._now_s()
            look.until_s = ended_s + (ended_s - began_s) * (1 / SHARE - 1)
            look.made.happen()


def _count(transaction: Transaction, job: str) -> Counted:
    mailing = find_mailing(transaction, job)
    return Counted(mailing, {} if mailing is None else counts(transaction, mailing.id))
