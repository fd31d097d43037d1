"""Holding a mailing, and letting it go on at once. Blocking, in a database thread."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.database import Transaction
from msgd.jobs.interface import Job, Jobs, OutboxRow
from msgd.services.mailer.store import is_paused, open_mailing, set_paused


def hold(transaction: Transaction, jobs: Jobs, job: str, *, paused: bool, now_ms: int) -> Sequence[OutboxRow]:
    """Pause the mailing of a job, or let it and its parts go on; what is to be posted then.

    Its jobs are locked first, as by a slice that ends: one that puts itself off either has done so, and is called now,
    or will see in :func:`call_if_resumed` that the pause is over.
    """
    rows: Sequence[OutboxRow] = ()
    if not paused and open_mailing(transaction, job, now_ms).paused:
        rows = jobs.hasten_within(transaction, job)
    set_paused(transaction, job, paused, now_ms)
    return rows


def call_if_resumed(transaction: Transaction, jobs: Jobs, job: Job) -> None:
    """In the transaction that puts off a slice of a paused mailing: if that was resumed since the slice had looked, the
    next one is called at once."""
    if not is_paused(transaction, [one for one in (job.id, job.parent) if one]):
        jobs.hasten_within(transaction, job.id, leased=False)
