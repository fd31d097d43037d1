"""The contracts of the jobs and their outbox, on both databases."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.contract.jobs import JobsContract
from tests.contract.jobs_base import JobsBase
from tests.contract.outbox import OutboxContract
from tests.servers import postgres


class OnSQLite(JobsBase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute() / 'jobs.sqlite3'}"


class OnPostgreSQL(JobsBase):
    def url(self) -> str:
        return postgres.fresh_database(self)


class JobsOnSQLiteTests(OnSQLite, JobsContract, TestCase):
    """SqlJobs on SQLite."""


class JobsOnPostgreSQLTests(OnPostgreSQL, JobsContract, TestCase):
    """SqlJobs on PostgreSQL."""


class OutboxOnSQLiteTests(OnSQLite, OutboxContract, TestCase):
    """SqlOutbox on SQLite."""


class OutboxOnPostgreSQLTests(OnPostgreSQL, OutboxContract, TestCase):
    """SqlOutbox on PostgreSQL."""
