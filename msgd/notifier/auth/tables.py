"""The table of revoked tokens."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from msgd.database.schema import metadata, time_ms

revocations = Table(
    "revocations",
    metadata,
    Column("kind", Text, primary_key=True),  # sub or jti
    Column("value", Text, primary_key=True),
    # Tokens issued up to then are refused: whoever gets a new one afterwards is let in again.
    time_ms("revoked_ms"),
    time_ms("until_ms", index=True),  # when the last token that this can concern has expired
)
