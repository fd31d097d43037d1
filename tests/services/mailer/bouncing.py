"""Bounces, with a mailing in the database whose one recipient has had a mail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.database import Database
from msgd.jobs.interface import OutboxRow, Submission
from msgd.jobs.sql import SqlJobs
from msgd.services.mailer import store
from msgd.services.mailer.bounces.reading import Bounces, Folder
from msgd.services.mailer.bounces.store import signing_key
from msgd.services.mailer.ledger import Ended, NewRow, RowState
from msgd.services.mailer.signing import Signer
from msgd.services.mailer.steps.store import advance
from msgd.services.mailer.suppressions.store import page

reactor: Any = global_reactor

ADDRESS = "bounces@sender.example"

NOTICE = b"""\
Delivered-To: %s
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 nobody here

--b--
"""

MANY = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 200_000


def nested(depth: int) -> bytes:
    """Parts in parts."""
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number) for number in range(depth)
    )


class BounceCase(TestCase):
    """Readers of bounces, each with a folder."""

    timeout = 180

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    async def begin(self, *, sent: bool = True) -> None:
        """The mail was sent, or is being sent."""
        self.time_ms = time.time_ns() // 1_000_000
        self.posted: list[OutboxRow] = []
        self.told: Deferred[None] = Deferred()
        self.database = Database(f"sqlite:///{self.folder}/msgd.sqlite3", reactor=reactor)
        await self.database.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.database.stop()))
        self.job = (await SqlJobs(self.database, clock=reactor).submit(Submission(type="mail", params=b"{}"))).job.id
        self.mailing = (await self.write(store.open_mailing, job=self.job, now_ms=1)).id
        rows = [NewRow(1, "anna@example.com", "anna@example.com", "", {})]
        await self.write(store.load, mailing=self.mailing, given=rows, read=1, complete=True, now_ms=1)
        due = partial(store.due, mailing=self.mailing, first=1, last=1, after=0, now_ms=10, limit=1)
        await self.advance(begin=await self.database.write(due), end=[])
        if sent:
            await self.sent()
        self.verp = Signer(await self.write(signing_key, made=b"k" * 32)).verp(self.mailing, 1)

    async def sent(self) -> None:
        """The mailer saves that the mail was sent."""
        await self.advance(begin=[], end=[Ended(1, RowState.SENT, 1, 250, "ok")])

    async def advance(self, **step: Any) -> None:
        given = {"mailing": self.mailing, "back": [], "job": self.job, "claim": "a/1", "now_ms": self.time_ms}
        await self.write(advance, **given, **step)

    def reader(self, folder: Folder, post: Any = None) -> Bounces:
        """``post``: what publishes, instead of what keeps it here."""
        return Bounces(
            folder,
            ADDRESS,
            database=self.database,
            jobs=SqlJobs(self.database, clock=reactor, post=post or self.publish),
            in_thread=deferToThread,
            clock=reactor,
            now_ms=lambda: self.time_ms,
        )

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        self.posted.extend(rows)
        if len(self.posted) == len(rows) > 0:
            reactor.callLater(0, self.told.callback, None)  # not in the middle of the reader that is to be stopped

    async def write(self, change: Any, **given: Any) -> Any:
        return await self.database.write(partial(change, **given))

    async def state(self) -> str:
        """Of the recipient."""
        row = await self.database.read(partial(store.find_row, mailing=self.mailing, row=1))
        assert row is not None
        return row.state

    async def suppressed(self) -> list[str]:
        """Who gets no more mail."""
        found = await self.database.read(partial(page, search="", after="", limit=10))
        return [one.email for one in found]

    @property
    def types(self) -> list[str]:
        """Of the events told."""
        return [row.message.type for row in self.posted]

    def notice(self, verp: str = "") -> bytes:
        return NOTICE % f"bounces+{verp or self.verp}@sender.example".encode()
