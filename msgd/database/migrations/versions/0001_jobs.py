"""Jobs, their idempotency keys, the outbox, job types, dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from msgd.database.schema import Serial

revision = "0001_jobs"
down_revision = None
branch_labels = None
depends_on = None


def _partial_index(name: str, columns: list[str], condition: str) -> None:
    """An index of jobs over those that meet ``condition``, on both databases."""
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, postgresql_where=where, sqlite_where=where)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("slice", sa.Integer, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("claims", sa.Integer, nullable=False),
        sa.Column("children", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("recorded", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("not_before_ms", sa.BigInteger),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("heartbeat_ms", sa.BigInteger),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("parent", sa.Text, nullable=False),
        sa.Column("parent_slice", sa.Integer),
        sa.Column("reply_to", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("progress", sa.LargeBinary),
        sa.Column("params", sa.LargeBinary, nullable=False),
        sa.Column("saved", sa.LargeBinary),
        sa.Column("result", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("ix_jobs_created", "jobs", ["created_ms", "id"])
    op.create_index("ix_jobs_owner", "jobs", ["owner", "created_ms", "id"])
    _partial_index("ix_jobs_unfinished", ["state", "id"], "ended_ms IS NULL")
    _partial_index("ix_jobs_failed", ["created_ms", "id"], "state = 'failed'")
    _partial_index("ix_jobs_ended", ["ended_ms"], "ended_ms IS NOT NULL")
    _partial_index("ix_jobs_parent", ["parent"], "parent <> ''")

    op.create_table(
        "job_keys",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_job_keys"),
    )
    op.create_index("ix_job_keys_created", "job_keys", ["created_ms"])

    op.create_table(
        "outbox",
        sa.Column("id", Serial, nullable=False),
        sa.Column("due_ms", sa.BigInteger, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("exchange", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_due", "outbox", ["due_ms"])
    op.create_index("ix_outbox_job", "outbox", ["job", "id"])

    op.create_table(
        "job_types",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("schema", sa.LargeBinary, nullable=False),
        sa.Column("results", sa.LargeBinary, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("name", name="pk_job_types"),
    )

    op.create_table(
        "dead_letters",
        sa.Column("id", Serial, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("exchange", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("slice", sa.BigInteger),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letters"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dead_letters_message", "dead_letters", ["message_id", "queue"])
    op.create_index("ix_dead_letters_time", "dead_letters", ["time_ms"])


def downgrade() -> None:
    for table in ("dead_letters", "job_types", "outbox", "job_keys", "jobs"):
        op.drop_table(table)
