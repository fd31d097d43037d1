"""The crawler's frontier: crawls under way, and the URLs that each has found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from msgd.database.schema import Serial

revision = "0003_crawler"
down_revision = "0002_journal"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "crawls",
        sa.Column("id", Serial, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("sites", sa.Text, nullable=False),
        sa.Column("next_n", sa.BigInteger, nullable=False),
        sa.Column("known", sa.BigInteger, nullable=False),
        sa.Column("handled", sa.BigInteger, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("errors", sa.Integer, nullable=False),
        sa.Column("redirects", sa.Integer, nullable=False),
        sa.Column("skipped", sa.Integer, nullable=False),
        sa.Column("results", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_crawls"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_crawls_job_jobs", ondelete="CASCADE"),
        sa.UniqueConstraint("job", "run", name="uq_crawls_job_run"),
    )
    op.create_table(
        "crawl_urls",
        sa.Column("crawl", Serial, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("tries", sa.SmallInteger, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("crawl", "n", name="pk_crawl_urls"),
        sa.ForeignKeyConstraint(["crawl"], ["crawls.id"], name="fk_crawl_urls_crawl_crawls", ondelete="CASCADE"),
        sa.UniqueConstraint("crawl", "digest", name="uq_crawl_urls_crawl_digest"),
    )
    where = sa.text("NOT done")
    op.create_index(
        "ix_crawl_urls_open", "crawl_urls", ["crawl", "level", "n"], postgresql_where=where, sqlite_where=where
    )


def downgrade() -> None:
    op.drop_table("crawl_urls")
    op.drop_table("crawls")
