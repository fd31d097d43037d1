"""The tables of the jobs: what was asked, what is still to be said, who can perform what, what nobody could."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, false, text

from msgd.database import metadata
from msgd.database.schema import Serial, time_ms

ROOM_FOR_BEATS: Final = 80
"""Per cent to which PostgreSQL fills a page of jobs: a new version of a row that fits beside the old one (a heartbeat,
a claim) leaves the indexes alone (PostgreSQL's manual, heap-only tuples)."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("run", Integer, nullable=False),
    Column("slice", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("claims", Integer, nullable=False),
    Column("children", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("recorded", Boolean, nullable=False),
    time_ms("created_ms"),
    time_ms("not_before_ms", nullable=True),
    time_ms("started_ms", nullable=True),
    time_ms("ended_ms", nullable=True),
    time_ms("heartbeat_ms", nullable=True),
    Column("worker", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("parent_slice", Integer),
    Column("reply_to", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("progress", LargeBinary),
    Column("params", LargeBinary, nullable=False),
    Column("saved", LargeBinary),
    Column("result", LargeBinary),
    postgresql_with={"fillfactor": str(ROOM_FOR_BEATS)},
)

# Listing, newest first: all jobs, or one owner's.
Index("ix_jobs_created", jobs.c.created_ms, jobs.c.id)
Index("ix_jobs_owner", jobs.c.owner, jobs.c.created_ms, jobs.c.id)
# The few that have not ended: heartbeats that went stale, refilling an emptied broker.
Index(
    "ix_jobs_unfinished",
    jobs.c.state,
    jobs.c.id,
    postgresql_where=text("ended_ms IS NULL"),
    sqlite_where=text("ended_ms IS NULL"),
)
# The failed are a list of their own: the dead letters that can be run again.
Index(
    "ix_jobs_failed",
    jobs.c.created_ms,
    jobs.c.id,
    postgresql_where=text("state = 'failed'"),
    sqlite_where=text("state = 'failed'"),
)
Index(
    "ix_jobs_ended",
    jobs.c.ended_ms,
    postgresql_where=text("ended_ms IS NOT NULL"),
    sqlite_where=text("ended_ms IS NOT NULL"),
)
Index("ix_jobs_parent", jobs.c.parent, postgresql_where=text("parent <> ''"), sqlite_where=text("parent <> ''"))

job_keys = Table(
    "job_keys",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("job", Text, nullable=False),
    time_ms("created_ms"),
)
Index("ix_job_keys_created", job_keys.c.created_ms)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    time_ms("due_ms"),
    Column("job", Text, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("message", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # the recorder deletes by number: one that came again would be another row's
)
Index("ix_outbox_due", outbox.c.due_ms)
Index("ix_outbox_job", outbox.c.job, outbox.c.id)

job_types = Table(
    "job_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("summary", Text, nullable=False),
    Column("schema", LargeBinary, nullable=False),
    Column("results", LargeBinary, nullable=False),  # JSON
    Column("needs", LargeBinary, nullable=False, server_default=text("'[]'")),  # JSON
    Column("paused", Boolean, nullable=False, server_default=false()),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    time_ms("time_ms"),
    Column("reason", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("slice", BigInteger),
    Column("job", Text, nullable=False),
    Column("message", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # an id once told to a client never means another letter
)
Index("ix_dead_letters_message", dead_letters.c.message_id, dead_letters.c.queue)
Index("ix_dead_letters_time", dead_letters.c.time_ms)
