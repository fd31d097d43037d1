"""What each owner's uploads amount to, and when an upload was last needed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013_upload_usage"
down_revision = "0012_mail_claims"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upload_usage",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_upload_usage"),
    )
    op.execute(
        "INSERT INTO upload_usage (owner, bytes, files) SELECT owner, sum(size), count(*) FROM uploads GROUP BY owner"
    )
    op.add_column("uploads", sa.Column("needed_ms", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE uploads SET needed_ms = created_ms")
    op.create_index("ix_uploads_needed_ms", "uploads", ["needed_ms", "id"])


def downgrade() -> None:
    op.drop_index("ix_uploads_needed_ms", "uploads")
    op.drop_column("uploads", "needed_ms")
    op.drop_table("upload_usage")
