"""The table of what was heard: each command is answered by one messenger, once."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text

from msgd.database.schema import metadata, time_ms

xmpp_heard = Table(
    "xmpp_heard",
    metadata,
    Column("key", Text, primary_key=True),
    time_ms("time_ms", index=True),
)
