"""The notifier's tables: revoked tokens, rooms and their members."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_notifier"
down_revision = "0003_crawler"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "value", name="pk_revocations"),
    )
    op.create_index("ix_revocations_until_ms", "revocations", ["until_ms"])
    op.create_table(
        "rooms",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("private", sa.Boolean, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_rooms"),
    )
    op.create_table(
        "room_members",
        sa.Column("room", sa.Text, nullable=False),
        sa.Column("sub", sa.Text, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("room", "sub", name="pk_room_members"),
        sa.ForeignKeyConstraint(["room"], ["rooms.name"], name="fk_room_members_room_rooms", ondelete="CASCADE"),
    )
    op.create_index("ix_room_members_sub", "room_members", ["sub"])


def downgrade() -> None:
    op.drop_table("room_members")
    op.drop_table("rooms")
    op.drop_table("revocations")
