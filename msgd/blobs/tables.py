"""The tables of uploads, of the pictures made of them, and of blobs that may come or go."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text, text

from msgd.database.schema import metadata, time_ms

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),  # a sub
    Column("name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("blob", Text, nullable=False, index=True),
    time_ms("created_ms"),
    Column("job", Text, nullable=False),  # empty: none
    time_ms("needed_ms", server_default=text("0")),  # when it was made, or last seen to be needed
    Index("ix_uploads_owner_id", "owner", "id"),
    Index("ix_uploads_needed_ms", "needed_ms", "id"),
)

usage: Final = Table(
    "upload_usage",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
)
"""What an owner's uploads amount to: the row that those wait for who change it at the same time."""

pictures: Final = Table(
    "upload_pictures",
    metadata,
    Column("upload", Text, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("blob", Text, nullable=False, index=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
)

marks: Final = Table(
    "blob_marks",
    metadata,
    Column("blob", Text, primary_key=True),
    time_ms("until_ms"),
    Column("deleting", Boolean, nullable=False),
    Index("ix_blob_marks_until_ms", "until_ms"),
)
"""Blobs to be looked at when the time is over: is something referring to them? Until then one is held (it is about to
be referred to), or, if ``deleting``, on its way out."""
