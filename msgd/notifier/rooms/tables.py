"""The tables of rooms and their members."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Table, Text

from msgd.database.schema import metadata, time_ms

rooms = Table(
    "rooms",
    metadata,
    Column("name", Text, primary_key=True),  # the topic is room.<name>
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("owner", Text, nullable=False),  # a sub
    time_ms("created_ms"),
    Column("version", BigInteger, nullable=False),  # of this room and its members
)

room_members = Table(
    "room_members",
    metadata,
    Column("room", Text, ForeignKey("rooms.name", ondelete="CASCADE"), primary_key=True),
    Column("sub", Text, primary_key=True, index=True),
    time_ms("since_ms"),
)
