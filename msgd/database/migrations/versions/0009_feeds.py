"""The entries of feeds that were published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_feeds"
down_revision = "0008_mailer"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feeds",
        sa.Column("id", sa.LargeBinary, nullable=False),
        sa.Column("read_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feeds"),
    )
    op.create_index("ix_feeds_read", "feeds", ["read_ms"])
    op.create_table(
        "feed_entries",
        sa.Column("feed", sa.LargeBinary, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("listed_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("feed", "entry", name="pk_feed_entries"),
        sa.ForeignKeyConstraint(["feed"], ["feeds.id"], name="fk_feed_entries_feed_feeds", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("feed_entries")
    op.drop_table("feeds")
