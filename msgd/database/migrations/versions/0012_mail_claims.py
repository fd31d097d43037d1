"""Under which claim a recipient is being mailed to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012_mail_claims"
down_revision = "0011_rules"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mail_recipients", sa.Column("claim", sa.Text))


def downgrade() -> None:
    op.drop_column("mail_recipients", "claim")
