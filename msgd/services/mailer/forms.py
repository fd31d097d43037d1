"""What the mailer's routes are asked and answer, in JSON."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from msgd.messages.wire import format_time
from msgd.services.mailer.ledger import Shown
from msgd.services.mailer.suppressions.store import Suppression


class NewSuppression(Struct, kw_only=True, forbid_unknown_fields=True):
    """An address that shall get no more mail."""

    email: str
    detail: str = ""


def suppression_view(one: Suppression) -> dict[str, Any]:
    return {
        "email": one.email,
        "reason": one.reason,
        "detail": one.detail,
        "job": one.job or None,
        "since": format_time(one.since_ms),
    }


def recipient_view(one: Shown) -> dict[str, Any]:
    return {
        "row": one.row,
        "email": one.email,
        "name": one.name,
        "state": one.state,
        "attempt": one.attempt,
        "code": one.code,
        "reply": one.reply,
        "next": None if one.next_ms is None or one.state != "deferred" else format_time(one.next_ms),
        "changed": format_time(one.changed_ms),
    }
