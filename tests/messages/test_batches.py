"""Several events in one message, and out of it again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidInput
from msgd.messages import json
from msgd.messages.batches import BYTES, CONTENT_TYPE, EVENTS, is_batch, pack, unpack
from msgd.messages.envelope import Message
from msgd.messages.events import Event
from msgd.messages.wire import message_to_event

_words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_data = st.recursive(st.none() | st.booleans() | st.integers() | _words, st.lists, max_leaves=4)
_own = st.tuples(_words, _words, _data.map(json.encode))


def events(*own: tuple[str, str, bytes]) -> list[Event]:
    return [
        Event(topic="job.j", type=type_, id=id_, source="mail", time_ms=1234, data=data, run=2, token=7)
        for id_, type_, data in own
    ]


def read(messages: list[Message]) -> list[Event]:
    found: list[Event] = []
    for message in messages:
        if is_batch(message):
            found += unpack("job.j", message, now_ms=0)
        else:
            found.append(message_to_event("job.j", message, now_ms=0, new_id="n"))
    return found


class BatchTests(SynchronousTestCase):
    @given(st.lists(_own, max_size=12))
    def test_there_and_back(self, own: list[tuple[str, str, bytes]]) -> None:
        """What comes out is what was put in, data byte for byte, in its order."""
        given_ones = events(*own)
        messages = pack(given_ones)
        self.assertEqual(len(messages), min(1, len(own)))
        self.assertEqual(read(messages), given_ones)

    def test_one_event(self) -> None:
        """An event alone has the form that everybody's have."""
        [message] = pack(events(("1", "sent", b"{}")))
        self.assertFalse(is_batch(message))

    def test_limits(self) -> None:
        """Many events are several messages; a large one has its own; the order stays."""
        many = events(*((str(number), "sent", b"1") for number in range(EVENTS + 1)))
        self.assertEqual([is_batch(one) for one in pack(many)], [True, False])
        large = b'"' + b"x" * BYTES + b'"'
        mixed = events(("1", "sent", b"1"), ("2", "sent", large), ("3", "sent", b"1"), ("4", "sent", b"1"))
        self.assertEqual([is_batch(one) for one in pack(mixed)], [False, False, True])
        self.assertEqual(read(pack(mixed)), mixed)

    def test_what_is_no_batch(self) -> None:
        """Broken JSON, another shape, bad numbers and what no event can have for an id or a type is refused."""
        [good] = pack(events(("1", "sent", b"1"), ("2", "sent", b"2")))
        for body in (
            b"[",
            b"{}",
            b'[["1","sent"]]',
            b'[["1","sent",1,1]]',
            b'[["","sent",1]]',
            b'[["1","",1]]',
            b'[["1","sent",1e999]]',
            b'[["1","sent","\xff"]]',
            json.encode([["x" * 201, "sent", 1]]),
            json.encode([["1", "\u20ac" * 34, 1]]),
        ):
            self.assertRaises(InvalidInput, unpack, "job.j", replace(good, body=body), now_ms=0)
        self.assertRaises(InvalidInput, unpack, "job..j", good, now_ms=0)

    @given(st.builds(Message, body=st.binary() | _data.map(json.encode), content_type=st.just(CONTENT_TYPE)))
    def test_anything(self, message: Message) -> None:
        """Whatever comes as a batch is events, or refused as invalid."""
        try:
            found = unpack("job.j", message, now_ms=0)
        except InvalidInput:
            return
        self.assertTrue(all(one.id and one.type for one in found))
