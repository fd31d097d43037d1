"""The mailer's HTTP routes: the ledger of a mail job, pause and resume, and a preview."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from email import message_from_bytes, policy
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from msgd.blobs.interface import Blobs, Uploads
from msgd.errors import Conflict, InvalidInput, InvalidParams, NotFound
from msgd.jobs.interface import Job, Jobs
from msgd.messages import json
from msgd.notifier.interface import JSON, Answer, Call, Orders, Reply, Route, Stream, answer
from msgd.services.mailer.counting import Counting
from msgd.services.mailer.forms import recipient_view
from msgd.services.mailer.holding import hold
from msgd.services.mailer.ledger import MailingRow, Row, RowState, Shown
from msgd.services.mailer.making_out import Identity, copy_of, mailing_of
from msgd.services.mailer.params import MAIL, Known, PreviewParams
from msgd.services.mailer.press import Press
from msgd.services.mailer.signing import Signer
from msgd.services.mailer.store import Database, find_mailing, recipients
from msgd.services.mailer.templates import ContentError

PAGE_DEFAULT: Final = 100
PAGE_MOST: Final = 1000
"""Rows in one answer."""

CSV_PAGE: Final = 1000
COLUMNS: Final = ("row", "email", "name", "state", "attempt", "code", "reply", "next", "changed")
_FORMULA: Final = tuple("=+-@\t\r")


class MailApi:
    """Looks into ledgers, holds mailings and lets them go on, shows what a mail would look like."""

    def __init__(
        self,
        orders: Orders,
        *,
        jobs: Jobs,
        database: Database,
        uploads: Uploads,
        blobs: Blobs,
        press: Press,
        identity: Identity,
        now_ms: Callable[[], int],
        in_thread: Callable[..., Awaitable[Any]],
    ) -> None:
        """``in_thread`` calls its first argument with the others in a thread."""
        self._orders = orders
        self._jobs = jobs
        self._database = database
        self._uploads = uploads
        self._blobs = blobs
        self._press = press
        self._identity = identity
        self._now_ms = now_ms
        self._counting = Counting(database, lambda: now_ms() / 1000)
        self._in_thread = in_thread

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET", path="/api/jobs/{id}/recipients", endpoint=self.recipients, produces=(JSON, "text/csv")
            ),
            Route(method="GET", path="/api/mail/{id}", endpoint=self.show),
            Route(method="POST", path="/api/mail/{id}/pause", endpoint=partial(self.hold, paused=True)),
            Route(method="POST", path="/api/mail/{id}/resume", endpoint=partial(self.hold, paused=False)),
            Route(method="POST", path="/api/mail/preview", endpoint=self.preview),
        )

    async def recipients(self, call: Call) -> Reply:
        """A page of the ledger, or all of it as CSV."""
        job = await self._job(call)
        states = [state for state in call.text("state").split(",") if state]
        for state in states:
            if state not in set(RowState):
                raise InvalidInput(f"state={state[:40]!r} must be of {', '.join(RowState)}", where="state")
        kind = call.text("format", "json")
        if kind not in ("json", "csv"):
            raise InvalidInput(f"format={kind[:40]!r} must be json or csv", where="format")
        after = int(call.number("after", 0, least=0, most=1 << 53))
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        mailing = await self._database.read(partial(find_mailing, job=job.id))
        if kind == "csv":
            return Stream(
                chunks=self._csv(mailing, states, after),
                content_type="text/csv; charset=utf-8; header=present",
                headers={"content-disposition": f'attachment; filename="recipients-{job.id}.csv"'},
            )
        rows = await self._page(mailing, states, after, limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        return answer({"recipients": [recipient_view(row) for row in rows], "next": rows[-1].row if more else None})

    async def _page(self, mailing: MailingRow | None, states: Sequence[str], after: int, limit: int) -> Sequence[Shown]:
        if mailing is None:
            return []
        return await self._database.read(
            partial(recipients, mailing=mailing.id, states=states, after=after, limit=limit)
        )

    async def _csv(self, mailing: MailingRow | None, states: Sequence[str], after: int) -> AsyncIterator[bytes]:
        yield _lines([COLUMNS])
        while rows := await self._page(mailing, states, after, CSV_PAGE):
            views = [recipient_view(row) for row in rows]
            yield _lines([[view[name] for name in COLUMNS] for view in views])
            after = rows[-1].row

    async def show(self, call: Call) -> Answer:
        """How many recipients are in each state."""
        job = await self._job(call)
        counted = await self._counting.of(job.id, anew=job.ended)
        mailing = counted.mailing
        return answer(
            {
                "job": job.id,
                "states": counted.states,
                "recipients": sum(counted.states.values()),
                "complete": mailing is not None and mailing.complete,
                "paused": mailing is not None and mailing.paused,
            }
        )

    async def hold(self, call: Call, *, paused: bool) -> Answer:
        """Send nothing more for a while: within a second. Or go on, at once."""
        job = await self._job(call)
        who = call.principal
        who.require(who.may_change(job.id, job.owner), "pausing this job")
        if paused and job.ended:
            raise Conflict(f"job {job.id} has ended: there is nothing to pause")
        write = partial(hold, jobs=self._jobs, job=job.id, paused=paused, now_ms=self._now_ms())
        self._jobs.post(await self._database.write(write))
        self._counting.forget(job.id)
        return answer({"job": job.id, "paused": paused})

    async def _job(self, call: Call) -> Job:
        """The mail job that is asked for; a part stands for the whole."""
        job = await self._orders.job(call.principal, call.words["id"])
        if job.type == MAIL.name and job.parent and json.decode(job.params, Known).part is not None:
            job = await self._orders.job(call.principal, job.parent)
        if job.type != MAIL.name:
            raise NotFound("this is no mail job", where="id")
        return job

    async def preview(self, call: Call) -> Answer:
        """One recipient's mail, made out and not sent."""
        who = call.principal
        self._orders.check_submit(who, MAIL.name)
        # To read large templates takes a tenth of a second.
        params: PreviewParams = await self._in_thread(call.json, PreviewParams)
        given = params.recipient
        row = Row(
            row=1, email=given.email, key=given.address.key, name=given.name, vars=given.vars, state="queued",
            attempt=0, reply="", first_ms=None,
        )  # fmt: skip
        mailing = await mailing_of(who.sub, params, self._identity, self._uploads, self._blobs)
        # Nothing here is signed with the key that counts: the link in a preview unsubscribes nobody.
        copy = copy_of(Signer(b""), self._identity, "preview", params, row, mailing.sender, self._now_ms() // 1000)
        try:
            number = await self._press.open(replace(mailing, shown=True))
            try:
                made = await self._press.make(number, copy)
            finally:
                self._press.close(number)
        except ContentError as error:
            raise InvalidParams(str(error), where="params") from None
        assert made.parts is not None
        head = message_from_bytes(made.message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", policy=policy.default)
        return answer(
            {
                "subject": made.parts.subject,
                "text": made.parts.text,
                "html": made.parts.html,
                "headers": [[name, str(value)] for name, value in head.items()],
                "bytes": len(made.message),
            }
        )


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    """Rows of a CSV (RFC 4180), in which nothing looks like a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(_FORMULA) else value
