"""What is published after a batch was stored: for the notifiers, and for those who called by RPC. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct, structs

from msgd.broker.topology import HEAD_KEY, LIVE
from msgd.jobs.interface import Reply
from msgd.messages.envelope import Message
from msgd.messages.events import Event, Recorded
from msgd.messages.live import Head, LiveEvent, encode_batch, encode_head, group, live_event
from msgd.messages.topics import bucket, job_topic
from msgd.messages.wire import event_to_message

MESSAGE_BYTES: Final = 1024 * 1024
"""Data in one live message; a bucket with more in a batch has several. A broker takes 16 MiB, but not gladly."""

HEAD_TYPE: Final = "head"
BATCH_TYPE: Final = "batch"


class Posting(Struct, frozen=True):
    """A message and where it goes."""

    exchange: str
    key: str
    message: Message


def stored(epoch: str, recorded: Sequence[Recorded], *, first: int, last: int) -> list[Posting]:
    """The live messages for events that were stored as ``first``..``last``: the buckets touched, then the head."""
    buckets = group(recorded)
    postings = [_batch(epoch, number, part) for number, events in buckets.items() for part in _parts(events)]
    counts = {number: len(events) for number, events in buckets.items()}
    return [*postings, head(epoch, first=first, last=last, counts=counts)]


def head(epoch: str, *, first: int, last: int, counts: Mapping[int, int]) -> Posting:
    """The head message; an idle recorder's has ``first = last + 1`` and no counts."""
    return Posting(LIVE, HEAD_KEY, _message(HEAD_TYPE, encode_head(Head(epoch, first, last, dict(counts)))))


def transient(epoch: str, events: Iterable[Event]) -> list[Posting]:
    """The live messages for events that are shown and not stored."""
    buckets: dict[int, list[LiveEvent]] = {}
    for event in events:
        buckets.setdefault(bucket(event.topic), []).append(live_event(event))
    return [_batch(epoch, number, part) for number, given in buckets.items() for part in _parts(given)]


def replies(epoch: str, recorded: Iterable[Recorded], wanted: Sequence[Reply]) -> list[Posting]:
    """The messages for those who wait for the events of a job, in the order of the events."""
    if not wanted:
        return []
    to = {job_topic(reply.job): reply for reply in wanted}
    return [
        Posting("", reply.reply_to, _reply(epoch, one, reply))
        for one in recorded
        if (reply := to.get(one.event.topic)) is not None
    ]


def _reply(epoch: str, one: Recorded, reply: Reply) -> Message:
    message = event_to_message(structs.replace(one.event, outbox=None), seq=one.seq, cursor=one.cursor(epoch))
    return structs.replace(message, correlation_id=reply.correlation_id)


def _parts(events: Sequence[LiveEvent]) -> Iterator[list[LiveEvent]]:
    """The events in pieces of at most :data:`MESSAGE_BYTES`, one event at least."""
    part: list[LiveEvent] = []
    size = 0
    for event in events:
        length = memoryview(event.data).nbytes
        if part and size + length > MESSAGE_BYTES:
            yield part
            part, size = [], 0
        part.append(event)
        size += length
    yield part


def _batch(epoch: str, number: int, events: Sequence[LiveEvent]) -> Posting:
    return Posting(LIVE, str(number), _message(BATCH_TYPE, encode_batch(epoch, events)))


def _message(type_: str, body: bytes) -> Message:
    # What is lost is found by the next head, and lies in the journal: it need not survive the broker.
    return Message(body=body, type=type_, persistent=False)
