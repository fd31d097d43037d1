"""What was heard, in the database: functions over an open transaction."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete

from msgd.database import Database, Transaction
from msgd.database.bulk import insert
from msgd.services.messenger.xmpp.tables import xmpp_heard

__all__ = ["Database", "Transaction"]

KEPT_MS: Final = 24 * 3600 * 1000
"""For which a message that comes again is known: servers resume sessions, and other messengers hear, within minutes."""


def is_new(transaction: Transaction, key: str, now_ms: int) -> bool:
    """Whether nobody has heard this before; from now on somebody has."""
    transaction.execute(delete(xmpp_heard).where(xmpp_heard.c.time_ms < now_ms - KEPT_MS))
    statement = insert(transaction, xmpp_heard).values(key=key, time_ms=now_ms)
    heard = statement.on_conflict_do_nothing(index_elements=["key"]).returning(xmpp_heard.c.key)
    return transaction.execute(heard).first() is not None
