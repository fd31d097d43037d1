"""What is sent: pure.

Source: the Standard Webhooks specification, "Webhook payload" and "Webhook headers (sending metadata to consumers)".
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from msgd.messages import json
from msgd.messages.events import Event, event_id
from msgd.messages.wire import format_time
from msgd.services.messenger.webhooks.signing import signature


def body(event: str, time_ms: int, data: Raw) -> bytes:
    """The payload: the event's type, when it happened, and its data as the bytes that were given. The same in every
    try."""
    return json.encode({"type": event, "timestamp": format_time(time_ms), "data": data})


def headers(id_: str, now_s: int, content: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """What goes with it: ``id_`` is the same in every try, the timestamp (seconds) is of this one. Without secrets
    there is no signature."""
    made = {"webhook-id": id_, "webhook-timestamp": str(now_s)}
    return {**made, "webhook-signature": signature(secrets, id_, now_s, content)} if secrets else made


def id_of(event: Event) -> str:
    """The ``webhook-id`` under which a journaled event is sent, by whomever and however often, so that its receiver
    knows it again."""
    return event_id(event.topic, 0, event.source, event.id)
