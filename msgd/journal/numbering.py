"""Which events of a batch are stored, and under which numbers: pure, values in and values out (DESIGN §3)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from msgd.errors import InvalidInput
from msgd.messages.events import Event, Recorded

NO_TOKEN: Final = -1
"""The fence of a topic on which no token was seen."""

FENCED: Final = "job."
"""Only on these topics do events carry the token of a claim."""

TOPIC_ID_BYTES: Final = 5
"""A trillion topics; and the keys of one topic lie side by side in the index, as its events come side by side."""

DIGEST_BYTES: Final = 11
"""88 bits: to be taken for another's event of the same topic takes 2**88 tries, as source and id are both in it."""

_INT64: Final = 1 << 63


class TopicState(Struct, frozen=True):
    """What the writer knows of a topic."""

    id: int
    last_seq: int
    last_pos: int
    token: int
    born_pos: int


class Numbered(Struct, frozen=True):
    """A batch with its numbers; the dropped events are in the order given."""

    recorded: Sequence[Recorded]
    keys: Sequence[bytes]  # of the recorded ones
    known: Sequence[Event]
    stale: Sequence[Event]
    topics: Mapping[str, TopicState]  # as they are afterwards: those that changed


def event_key(topic_id: int, source: str, id_: str) -> bytes:
    """The 16 bytes that say whether an event is known: its topic, its source and its id."""
    first = source.encode()
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    text = b"%d:%b%b" % (len(first), first, id_.encode())
    return topic_id.to_bytes(TOPIC_ID_BYTES) + hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


def check(event: Event) -> None:
    """Raise InvalidInput for what one of the databases cannot hold, so that both refuse the same."""
    for name, text in (("id", event.id), ("type", event.type), ("source", event.source)):
        if "\0" in text:
            raise InvalidInput(f"an event's {name} cannot hold the character U+0000", where=name)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidInput(f"an event's {name} cannot hold half a surrogate pair", where=name) from None
    for name, number in (("time_ms", event.time_ms), ("run", event.run), ("token", event.token)):
        if number is not None and not -_INT64 <= number < _INT64:
            raise InvalidInput(f"an event's {name} must fit into 64 bits; {number} does not", where=name)


def new_topics(events: Iterable[Event], there: Mapping[str, TopicState], last_id: int) -> dict[str, TopicState]:
    """Topics that the batch begins, numbered on from ``last_id`` in the order of their first events."""
    made: dict[str, TopicState] = {}
    for event in events:
        if event.topic not in there and event.topic not in made:
            last_id += 1
            made[event.topic] = TopicState(last_id, 0, 0, NO_TOKEN, 0)
    return made


def number(
    events: Sequence[Event],
    keys: Sequence[bytes],
    topics: Mapping[str, TopicState],
    known: Collection[bytes],
    pos: int,
) -> Numbered:
    """Drop stale and known events, give the others their seq and pos.

    ``keys``: of the events, in order; ``topics``: all that the events are on; ``known``: those of the keys that the
    journal has; ``pos``: the last one given. The fence rises with whatever comes with a higher token, known or not:
    a repeated step brings known events first.
    """
    changed: dict[str, TopicState] = {}
    recorded: list[Recorded] = []
    recorded_keys: list[bytes] = []
    dropped_known: list[Event] = []
    stale: list[Event] = []
    mine: set[bytes] = set()
    for event, key in zip(events, keys, strict=True):
        topic = event.topic
        state = changed.get(topic) or topics[topic]
        fence = state.token
        if event.token is not None and event.token != fence and topic.startswith(FENCED):
            if event.token > fence:
                fence = event.token
                changed[topic] = TopicState(state.id, state.last_seq, state.last_pos, fence, state.born_pos)
            elif event.outbox is None:
                stale.append(event)
                continue
        if key in known or key in mine:
            dropped_known.append(event)
            continue
        mine.add(key)
        pos += 1
        seq = state.last_seq + 1
        changed[topic] = TopicState(state.id, seq, pos, fence, state.born_pos or pos)
        recorded.append(Recorded(event, seq, pos))
        recorded_keys.append(key)
    return Numbered(recorded, recorded_keys, dropped_known, stale, changed)
