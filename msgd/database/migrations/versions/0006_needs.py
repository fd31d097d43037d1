"""What rights a job type takes beside that of submitting it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_needs"
down_revision = "0005_uploads"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("needs", sa.LargeBinary, nullable=False, server_default=sa.text("'[]'"))
    op.add_column("job_types", column)


def downgrade() -> None:
    op.drop_column("job_types", "needs")
