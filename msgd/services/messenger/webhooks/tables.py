"""The tables of webhooks: endpoints, and what was last sent to each."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text

from msgd.database.schema import metadata, serial, time_ms

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),  # a sub
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("old_secret", Text, nullable=False),  # signs too, until old_until_ms; empty: none
    time_ms("old_until_ms"),
    Column("enabled", Boolean, nullable=False),
    Column("reason", Text, nullable=False),  # why it is disabled
    time_ms("created_ms"),
    Column("failing_since_ms", BigInteger),  # the first of the tries that have all failed since the last success
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    serial(),
    Column("endpoint", Text, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("job", Text, nullable=False),
    Column("event", Text, nullable=False),
    time_ms("time_ms"),
    Column("delivered", Boolean, nullable=False),
    Column("status", Integer, nullable=False),  # 0: no answer
    Column("ms", Integer, nullable=False),
    Column("error", Text, nullable=False),
)

Index("ix_webhook_deliveries_endpoint_id", webhook_deliveries.c.endpoint, webhook_deliveries.c.id)
