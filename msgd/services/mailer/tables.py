"""The mailer's tables: mailings with their ledger of recipients, suppressions, and the key of its signatures."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from msgd.database.schema import Serial, metadata, serial, time_ms

mailings = Table(
    "mailings",
    metadata,
    serial(),
    # A purged job takes its ledger with it. Another run of a job goes on with the ledger that there is.
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("rows", BigInteger, nullable=False),  # read so far
    Column("complete", Boolean, nullable=False),  # all have been read
    Column("paused", Boolean, nullable=False),
    time_ms("started_ms"),
    sqlite_autoincrement=True,  # the number stands in addresses of bounces, which may come late
)

mail_recipients = Table(
    "mail_recipients",
    metadata,
    Column("mailing", Serial, ForeignKey("mailings.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("row", BigInteger, primary_key=True, autoincrement=False),  # from 1
    Column("email", Text, nullable=False),
    Column("key", Text, nullable=False),  # by which addresses are compared; empty: it is none
    Column("name", Text, nullable=False),
    Column("vars", Text, nullable=False),  # JSON
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("claim", Text),  # under which it became *sending* last
    Column("code", Integer),  # the server's last reply
    Column("reply", Text, nullable=False),
    time_ms("next_ms", nullable=True),  # of a deferred one: when it is tried again
    time_ms("first_ms", nullable=True),  # when it was tried first
    time_ms("changed_ms"),
    UniqueConstraint("mailing", "key"),
)

_OPEN = text("state IN ('queued', 'sending', 'deferred')")
Index(
    "ix_mail_recipients_open",
    mail_recipients.c.mailing,
    mail_recipients.c.row,
    postgresql_where=_OPEN,
    sqlite_where=_OPEN,
)

mail_suppressions = Table(
    "mail_suppressions",
    metadata,
    Column("key", Text, primary_key=True),
    Column("email", Text, nullable=False),
    Column("reason", Text, nullable=False),  # unsubscribed, bounced, complained, added
    Column("detail", Text, nullable=False),
    Column("job", Text, nullable=False),  # which led to it, if one did
    time_ms("since_ms"),
)

mail_keys = Table(
    "mail_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # there is one
    Column("key", LargeBinary, nullable=False),
)
