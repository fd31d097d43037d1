"""What the recorder tells the notifiers (DESIGN §3, "Live form"): per batch one message a bucket, then one head.

The body is JSON, so that any AMQP client can watch; ``data`` is embedded byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from msgd.messages.events import Event, Recorded
from msgd.messages.topics import bucket

Place = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A pos; of what is no such number, whoever sent it, no journal can be asked."""


class Head(Struct, frozen=True):
    """How far live push has come: the batch holds the events ``first``..``last``, ``counts[bucket]`` of each bucket.

    An idle recorder repeats the head with ``first = last + 1`` and no counts. A receiver that misses a head (``first``
    is not the previous ``last`` + 1) or counts fewer events fills from the journal before it pushes on.
    """

    epoch: str
    first: Place
    last: Place
    counts: dict[int, int]


class LiveEvent(Struct, frozen=True):
    """An event as it is pushed; ``seq`` and ``pos`` are None on transient ones."""

    topic: str
    seq: int | None
    pos: int | None
    id: str
    type: str
    source: str
    time: int  # milliseconds since 1970
    data: Raw
    run: int | None = None
    token: int | None = None
    n: int | None = None


class LiveBatch(Struct, frozen=True):
    """The events of one bucket in one batch, in pos order."""

    epoch: str
    events: list[LiveEvent]


_encode = msgspec.json.Encoder().encode
_decode_batch = msgspec.json.Decoder(LiveBatch).decode
_decode_head = msgspec.json.Decoder(Head).decode


def live_event(event: Event, seq: int | None = None, pos: int | None = None) -> LiveEvent:
    """The pushed form of an event."""
    return LiveEvent(
        event.topic,
        seq,
        pos,
        event.id,
        event.type,
        event.source,
        event.time_ms,
        Raw(event.data),
        event.run,
        event.token,
        event.n,
    )


def group(recorded: Iterable[Recorded]) -> dict[int, list[LiveEvent]]:
    """Recorded events by bucket, each in the order given."""
    buckets: dict[int, list[LiveEvent]] = {}
    for one in recorded:
        buckets.setdefault(bucket(one.event.topic), []).append(live_event(one.event, one.seq, one.pos))
    return buckets


def encode_batch(epoch: str, events: Sequence[LiveEvent]) -> bytes:
    """The body of a bucket's message."""
    return _encode(LiveBatch(epoch, list(events)))


def decode_batch(body: bytes) -> LiveBatch:
    """The events of a bucket's message; raises :class:`msgspec.DecodeError`."""
    return _decode_batch(body)


def encode_head(head: Head) -> bytes:
    """The body of a head message."""
    return _encode(head)


def decode_head(body: bytes) -> Head:
    """The head in a message; raises :class:`msgspec.DecodeError`."""
    return _decode_head(body)
