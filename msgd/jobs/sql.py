"""The jobs in SQL: all parts together. Conforms to :class:`~msgd.jobs.interface.Jobs`."""

from __future__ import annotations

from msgd.jobs.asking import Asking
from msgd.jobs.dead import DeadLetters
from msgd.jobs.performing import Performing
from msgd.jobs.types import Types
from msgd.jobs.upkeep import Upkeep


class SqlJobs(Asking, Performing, Upkeep, Types, DeadLetters):
    """What was asked, in SQLite or PostgreSQL.

    ``SqlJobs(database, clock=reactor, post=publisher.post)``; without a publisher in this process, others sweep up what
    is written here.
    """
