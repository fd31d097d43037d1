"""What was heard over XMPP: each command is answered once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_xmpp"
down_revision = "0009_feeds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "xmpp_heard",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_xmpp_heard"),
    )
    op.create_index("ix_xmpp_heard_time_ms", "xmpp_heard", ["time_ms"])


def downgrade() -> None:
    op.drop_table("xmpp_heard")
