"""Uploads, the pictures made of them, and blobs that may come or go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_uploads"
down_revision = "0004_notifier"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_blob", "uploads", ["blob"])
    op.create_index("ix_uploads_owner_id", "uploads", ["owner", "id"])
    op.create_table(
        "upload_pictures",
        sa.Column("upload", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("upload", "name", name="pk_upload_pictures"),
        sa.ForeignKeyConstraint(
            ["upload"], ["uploads.id"], name="fk_upload_pictures_upload_uploads", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_upload_pictures_blob", "upload_pictures", ["blob"])
    op.create_table(
        "blob_marks",
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("deleting", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("blob", name="pk_blob_marks"),
    )
    op.create_index("ix_blob_marks_until_ms", "blob_marks", ["until_ms"])


def downgrade() -> None:
    op.drop_table("blob_marks")
    op.drop_table("upload_pictures")
    op.drop_table("uploads")
