"""Notification rules, and the events that they have collected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011_rules"
down_revision = "0010_xmpp"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rules",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("grants", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("topics", sa.LargeBinary, nullable=False),
        sa.Column("types", sa.LargeBinary, nullable=False),
        sa.Column("condition", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("to", sa.LargeBinary, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("digest_s", sa.Float, nullable=False),
        sa.Column("hourly", sa.Integer, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.Float, nullable=False),
        sa.Column("tokens_ms", sa.BigInteger, nullable=False),
        sa.Column("fired", sa.BigInteger, nullable=False),
        sa.Column("fired_ms", sa.BigInteger),
        sa.Column("held_back", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("error_ms", sa.BigInteger),
        sa.Column("digest_due_ms", sa.BigInteger),
        sa.Column("digest_count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
    )
    op.create_index("ix_rules_owner", "rules", ["owner", "id"])
    due = sa.text("digest_due_ms IS NOT NULL")
    op.create_index("ix_rules_digest_due", "rules", ["digest_due_ms"], postgresql_where=due, sqlite_where=due)
    op.create_table(
        "rule_events",
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("pos", sa.BigInteger, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("rule", "pos", name="pk_rule_events"),
        sa.ForeignKeyConstraint(["rule"], ["rules.id"], name="fk_rule_events_rule_rules", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("rule_events")
    op.drop_table("rules")
