"""The journal: head, topics, events, the keys that make an event known, marks of time, followers."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002_journal"
down_revision = "0001_jobs"

_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Name = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Make the tables, and begin the journal's first life."""
    head = op.create_table(
        "journal_head",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("pos", sa.BigInteger, nullable=False),
        sa.Column("live_pos", sa.BigInteger, nullable=False),
        sa.Column("last_topic", sa.BigInteger, nullable=False),
        sa.Column("lease_holder", sa.Text, nullable=False),
        sa.Column("lease_number", sa.BigInteger, nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_journal_head_one_row")),
    )
    op.bulk_insert(
        head,
        [
            {
                "id": 1,
                "epoch": secrets.token_hex(8),
                "pos": 0,
                "live_pos": 0,
                "last_topic": 0,
                "lease_holder": "",
                "lease_number": 0,
                "lease_until_ms": 0,
            }
        ],
    )
    op.create_table(
        "journal_topics",
        sa.Column("id", _Serial, nullable=False, autoincrement=False),
        sa.Column("name", _Name, nullable=False),
        sa.Column("born_pos", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("last_pos", sa.BigInteger, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("gone_seq", sa.BigInteger, nullable=False),
        sa.Column("gone_pos", sa.BigInteger, nullable=False),
        sa.Column("erased_pos", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_topics"),
        sa.UniqueConstraint("name", name="uq_journal_topics_name"),
    )
    op.create_index("ix_journal_topics_gone_pos", "journal_topics", ["gone_pos"])
    op.create_table(
        "journal_events",
        sa.Column("pos", _Serial, nullable=False, autoincrement=False),
        sa.Column("topic_id", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("run", sa.BigInteger),
        sa.Column("token", sa.BigInteger),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("pos", name="pk_journal_events"),
    )
    op.create_index("ix_journal_events_topic_id_pos", "journal_events", ["topic_id", "pos"], unique=True)
    op.create_table(
        "journal_keys",
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_journal_keys"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal_trimmed",
        sa.Column("topic_id", sa.BigInteger, nullable=False),
        sa.Column("pos", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("trimmed_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "pos", name="pk_journal_trimmed"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_journal_trimmed_trimmed_ms", "journal_trimmed", ["trimmed_ms"])
    op.create_table(
        "journal_marks",
        sa.Column("time_ms", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("pos", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("time_ms", name="pk_journal_marks"),
    )
    op.create_table(
        "journal_followers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("pos", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_journal_followers"),
    )


def downgrade() -> None:
    """Remove the journal with all it holds."""
    for name in ("followers", "marks", "trimmed", "keys", "events", "topics", "head"):
        op.drop_table(f"journal_{name}")
