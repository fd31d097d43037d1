"""Several events of one job in one message: what a worker tells together travels, and is confirmed and acknowledged,
once. Only our workers write this form; everybody else sends one event a message (``wire``), as our workers may too.

===================  ===================================================================================
``content_type``     :data:`CONTENT_TYPE`, by which it is known
body                 a JSON array with ``[id, type, data]`` of each event, in their order
all else             as in a message of one event, and the same for all: topic, source, time, run, token
===================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from msgd.errors import InvalidInput
from msgd.messages import json
from msgd.messages.envelope import Message
from msgd.messages.events import Event
from msgd.messages.limits import ID_BYTES, TYPE_BYTES
from msgd.messages.wire import event_to_message, message_to_event

CONTENT_TYPE: Final = "application/vnd.msgd.events+json"

EVENTS: Final = 100
"""In one message: a fifth of what a recorder stores at a time."""

BYTES: Final = 256 * 1024
"""Of data in one message, which one larger event has to itself: a broker's confirm is not kept waiting."""


class _Packed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What an event of a batch has of its own."""

    id: str
    type: str
    data: Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Packed]).decode


def is_batch(message: Message) -> bool:
    """Whether a message holds several events."""
    return message.content_type == CONTENT_TYPE


def pack(events: Sequence[Event]) -> list[Message]:
    """The messages for events that have all in common but id, type and data; few, and the events in their order. Their
    routing key is the topic."""
    return [_packed(part) for part in _parts(events)]


def _packed(events: Sequence[Event]) -> Message:
    plain = event_to_message(events[0])
    if len(events) == 1:
        return plain
    body = _encode([_Packed(event.id, event.type, Raw(event.data)) for event in events])
    return replace(plain, body=body, content_type=CONTENT_TYPE, message_id="", type="", persistent=True)


def _parts(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    first = size = 0
    for at, event in enumerate(events):
        if at > first and (at - first == EVENTS or size + len(event.data) > BYTES):
            yield events[first:at]
            first, size = at, 0
        size += len(event.data)
    if first < len(events):
        yield events[first:]


def unpack(topic: str, message: Message, *, now_ms: int) -> list[Event]:
    """The events in such a message. Raises InvalidInput if it is none, or one of them cannot be an event."""
    alike = message_to_event(topic, replace(message, body=b"null", type="events"), now_ms=now_ms, new_id="-")
    items = json.decode_by(_decode, json.check(message.body), where="body")
    for item in items:
        _check(item.type, TYPE_BYTES, "type")
        _check(item.id, ID_BYTES, "id")
    return [
        Event(
            topic=topic,
            type=item.type,
            id=item.id,
            source=alike.source,
            time_ms=alike.time_ms,
            data=bytes(item.data),
            run=alike.run,
            token=alike.token,
        )
        for item in items
    ]


def _check(text: str, most: int, name: str) -> None:
    if not 0 < len(text.encode()) <= most:
        raise InvalidInput(f"each event of a batch has a {name} of 1 to {most} bytes", where=name)
