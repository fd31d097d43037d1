"""Server-sent events as bytes: what a parser written from the standard makes of them."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import LiveEvent
from msgd.notifier.items import Item
from msgd.notifier.sse import HEARTBEAT, block, place, retry
from tests.notifier.eventsource import Interpreter

lines = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda text: text.replace("\0", ""))
words = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", max_size=12)
values = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
)
blocks = st.lists(st.tuples(words, lines, words), max_size=8)


def heard(stream: bytes, cuts: list[int]) -> tuple[list[tuple[str, str, str]], Interpreter]:
    """What a client makes of a stream that arrives in these pieces."""
    interpreter = Interpreter()
    found: list[tuple[str, str, str]] = []
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(edges):
        found += interpreter.feed(stream[begin:end])
    return found, interpreter


class EncodingTest(SynchronousTestCase):
    @given(blocks, st.lists(st.integers(0, 10_000), max_size=6))
    def test_round_trip(self, given: list[tuple[str, str, str]], cuts: list[int]) -> None:
        """Any data, name and id arrive, however the bytes are cut, with line feeds for all kinds of line ends; comments
        and places in between show nothing."""
        stream, expected, last = retry(1500), [], ""
        for name, text, id_ in given:
            stream += HEARTBEAT + block(text.encode(), name=name, cursor=id_) + place(id_ or last)
            last = id_ or last
            plain = text.replace("\r\n", "\n").replace("\r", "\n")
            expected.append((name or "message", plain, last))
        found, interpreter = heard(stream, cuts)
        self.assertEqual(found, expected)
        self.assertEqual((interpreter.retry_ms, interpreter.last_event_id), (1500, last))

    @given(values)
    def test_data_as_received(self, value: object) -> None:
        """Data is kept as the bytes received, which may be JSON over several lines: it is the same JSON afterwards; the
        place is the event's cursor."""
        data = msgspec.json.format(msgspec.json.encode(value), indent=2).replace(b"\n", b"\r\n")
        event = LiveEvent(
            id="e1", topic="room.a", type="said", source="ann", time=0, data=msgspec.Raw(data), seq=7, pos=9
        )
        item = Item("abc", event)
        ((type_, text, last),) = Interpreter().feed(item.sse())
        message = msgspec.json.decode(text)
        self.assertEqual((type_, message["op"], message["seq"], last), ("message", "event", 7, "abc-9"))
        self.assertEqual(message["data"], value)
        self.assertIs(item.sse(), item.sse())  # encoded once

    def test_transient(self) -> None:
        """What is not kept has no place: the client's stays where it was."""
        event = LiveEvent(
            id="e1", topic="room.a", type="typing", source="ann", seq=None, pos=None, time=0, data=msgspec.Raw(b"{}")
        )
        self.assertNotIn(b"id: ", Item("abc", event).sse().split(b"data: ")[0])
