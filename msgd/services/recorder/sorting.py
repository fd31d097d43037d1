"""What a delivery is: events to store, or to show only, or nothing one can use. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from msgd.broker.interface import Delivery
from msgd.errors import InvalidInput
from msgd.messages.batches import is_batch, unpack
from msgd.messages.events import Event
from msgd.messages.ids import IdMaker
from msgd.messages.wire import message_to_event


class Given(Struct, frozen=True):
    """A delivery with the events in it."""

    delivery: Delivery
    events: Sequence[Event]


class Refused(Struct, frozen=True):
    """A delivery that is to be made dead, and why."""

    delivery: Delivery
    reason: str
    events: Sequence[Event] = ()


Item = Given | Refused


def read(delivery: Delivery, *, now_ms: int, new_id: IdMaker) -> Item:
    """What was delivered. One event without an id gets one: then a redelivery is another event."""
    try:
        if is_batch(delivery.message):
            return Given(delivery, unpack(delivery.key, delivery.message, now_ms=now_ms))
        own = delivery.message.message_id  # making one takes longer than all the rest
        event = message_to_event(delivery.key, delivery.message, now_ms=now_ms, new_id=own or new_id(now_ms))
    except InvalidInput as error:
        return Refused(delivery, error.reason)
    return Given(delivery, (event,))
