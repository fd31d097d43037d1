"""The tables of the rules: the rules, and the events that they have collected for a digest."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from msgd.database import metadata
from msgd.database.schema import time_ms

rules = Table(
    "rules",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("grants", LargeBinary, nullable=False),  # JSON
    Column("name", Text, nullable=False),
    Column("topics", LargeBinary, nullable=False),  # JSON
    Column("types", LargeBinary, nullable=False),  # JSON
    Column("condition", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("to", LargeBinary, nullable=False),  # JSON
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("digest_s", Float, nullable=False),
    Column("hourly", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),  # why it is off, if nobody switched it off
    Column("version", Integer, nullable=False),
    time_ms("created_ms"),
    time_ms("changed_ms"),
    Column("tokens", Float, nullable=False),
    time_ms("tokens_ms"),
    Column("fired", BigInteger, nullable=False),
    time_ms("fired_ms", nullable=True),
    Column("held_back", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    time_ms("error_ms", nullable=True),
    time_ms("digest_due_ms", nullable=True),
    Column("digest_count", Integer, nullable=False),
)
Index("ix_rules_owner", rules.c.owner, rules.c.id)
Index(
    "ix_rules_digest_due",
    rules.c.digest_due_ms,
    postgresql_where=text("digest_due_ms IS NOT NULL"),
    sqlite_where=text("digest_due_ms IS NOT NULL"),
)

rule_events = Table(
    "rule_events",
    metadata,
    Column("rule", Text, ForeignKey("rules.id", ondelete="CASCADE"), primary_key=True),
    Column("pos", BigInteger, primary_key=True),
    Column("event", LargeBinary, nullable=False),  # JSON
)
