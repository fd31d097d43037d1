"""Why a rule is off that its owner did not switch off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014_rule_reason"
down_revision = "0013_upload_usage"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rules", sa.Column("reason", sa.Text, nullable=False, server_default=sa.text("''")))


def downgrade() -> None:
    op.drop_column("rules", "reason")
