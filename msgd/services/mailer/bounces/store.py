"""What a notice changes, in one transaction: the row, perhaps a suppression, and the event that tells of it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from msgd.database import Database, Transaction
from msgd.errors import MsgdError
from msgd.jobs.tables import jobs
from msgd.messages import json
from msgd.messages.events import Event, event_id
from msgd.messages.topics import job_topic
from msgd.services.mailer.bounces.notice import Notice
from msgd.services.mailer.ledger import RowState
from msgd.services.mailer.params import MAIL
from msgd.services.mailer.store import bounced_late, find_row, job_of, signing_key
from msgd.services.mailer.suppressions.store import suppress
from msgd.services.mailer.tables import mail_recipients

__all__ = ["Database", "Transaction", "signing_key"]

EARLY_MS: Final = 3_600_000
"""For which a notice of a mail that is still being sent waits: the server may be quicker with it than the mailer with
saving that it was sent. Whoever takes long is dead, and the row will be unknown."""


class TooEarly(MsgdError):
    """Nobody knows yet whether the mail was sent: take in the notice a little later."""


def bounce(transaction: Transaction, mailing: int, row: int, notice: Notice, now_ms: int) -> Event | None:
    """Take in a notice; the event to tell with it, None if nothing changes by it: the same notice counts once. Raises
    TooEarly."""
    job = job_of(transaction, mailing)
    recipient = find_row(transaction, mailing, row) if job is not None else None
    if job is None or recipient is None or not notice.permanent:
        return None
    if not bounced_late(transaction, mailing, row, notice.code, notice.reply, now_ms):
        if recipient.state == RowState.SENDING and now_ms < _changed_ms(transaction, mailing, row) + EARLY_MS:
            raise TooEarly("the mail is being sent")
        return None
    if notice.no_such_user:
        suppress(transaction, recipient.key, recipient.email, "bounced", notice.reply, job, now_ms)
    data = {
        "row": row,
        "email": recipient.email,
        "attempt": recipient.attempt,
        "code": notice.code,
        "reply": notice.reply,
    }
    query = select(jobs.c.run, jobs.c.token).where(jobs.c.id == job)
    run, token = transaction.execute(query).one()
    return Event(
        topic=job_topic(job),
        type=RowState.BOUNCED.value,
        id=event_id(job, run, RowState.BOUNCED.value, f"[{row},{recipient.attempt}]"),
        source=MAIL.name,
        time_ms=now_ms,
        data=json.encode(data),
        run=run,
        token=token,
    )


def _changed_ms(transaction: Transaction, mailing: int, row: int) -> int:
    table = mail_recipients.c
    query = select(table.changed_ms).where(table.mailing == mailing, table.row == row)
    return int(transaction.execute(query).scalar_one())
