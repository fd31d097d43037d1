"""The mailer's tables: mailings with their ledger of recipients, suppressions, and the key of its signatures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from msgd.database.schema import Serial

revision = "0008_mailer"
down_revision = "0007_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mailings",
        sa.Column("id", Serial, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mailings"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_mailings_job_jobs", ondelete="CASCADE"),
        sa.UniqueConstraint("job", name="uq_mailings_job"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mail_recipients",
        sa.Column("mailing", Serial, nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("vars", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("code", sa.Integer),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("next_ms", sa.BigInteger),
        sa.Column("first_ms", sa.BigInteger),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("mailing", "row", name="pk_mail_recipients"),
        sa.ForeignKeyConstraint(
            ["mailing"], ["mailings.id"], name="fk_mail_recipients_mailing_mailings", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("mailing", "key", name="uq_mail_recipients_mailing_key"),
    )
    where = sa.text("state IN ('queued', 'sending', 'deferred')")
    op.create_index(
        "ix_mail_recipients_open", "mail_recipients", ["mailing", "row"], postgresql_where=where, sqlite_where=where
    )
    op.create_table(
        "mail_suppressions",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_mail_suppressions"),
    )
    op.create_table(
        "mail_keys",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mail_keys"),
    )


def downgrade() -> None:
    for table in ("mail_keys", "mail_suppressions", "mail_recipients", "mailings"):
        op.drop_table(table)
