"""Cutting bytes into frames, and putting messages together."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.codec import Malformed
from msgd.broker.amqp.content import decode_message, encode_header
from msgd.broker.amqp.frames import (
    ACK,
    DELIVER,
    FRAME_MIN,
    HEARTBEAT_FRAME,
    FrameReader,
    Unit,
    content_frames,
    method_frame,
)
from msgd.messages.envelope import Message

CONFIRM = ACK + struct.pack(">QB", 7, 1)
DELIVERY = DELIVER + b"\x01c" + struct.pack(">QB", 1, 0) + b"\x00" + b"\x01k"


def delivery(channel: int, body: bytes, frame_max: int = FRAME_MIN) -> bytes:
    """The frames of a ``basic.deliver`` with ``body``."""
    header = encode_header(Message(body=body))
    return method_frame(channel, DELIVERY) + content_frames(channel, header, body, frame_max)


class FrameReaderTest(SynchronousTestCase):
    """:class:`FrameReader`."""

    @given(
        st.lists(st.none() | st.binary(max_size=30) | st.integers(4000, 9000).map(lambda n: b"\xff" * n), max_size=6),
        st.integers(1, 5000),
    )
    def test_any_chunks(self, bodies: list[bytes | None], step: int) -> None:
        """However the bytes arrive, the same methods and messages come out, in order; None stands for a confirm."""
        stream = b"".join(
            method_frame(1, CONFIRM) + HEARTBEAT_FRAME if body is None else delivery(2, body) for body in bodies
        )
        reader = FrameReader(FRAME_MIN)
        units: list[Unit] = []
        for start in range(0, len(stream), step):
            units += reader.feed(stream[start : start + step])
        self.assertEqual([None if unit.header is None else unit.body for unit in units], bodies)
        for unit in units:
            self.assertEqual((unit.channel, unit.method), (1, CONFIRM) if unit.header is None else (2, DELIVERY))

    def test_first_frame_of_text_then_bytes(self) -> None:
        """A body whose first frame is UTF-8 and a later one is not arrives whole, and so does the reverse."""
        for body in (b"a" * 131_064 + b"\xff" * 1000, b"\xff" * 131_064 + b"a" * 1000):
            (unit,) = FrameReader(131_072).feed(delivery(1, body, 131_072))
            self.assertEqual(unit.body, body)

    def test_empty_body(self) -> None:
        """An empty body is empty bytes."""
        (unit,) = FrameReader(FRAME_MIN).feed(delivery(1, b""))
        self.assertEqual(unit.body, b"")
        self.assertIs(type(unit.body), bytes)

    def test_contents_of_two_channels_interleaved(self) -> None:
        """Frames of two channels may alternate."""
        first, second = delivery(1, b"a" * 5000), delivery(2, b"b" * 5000)
        cut = len(first) - 1000 - 8
        reader = FrameReader(FRAME_MIN)
        head, tail = split(first), split(second)
        mixed = b"".join(part for pair in zip(head, tail, strict=True) for part in pair)
        self.assertEqual([unit.body[:1] for unit in reader.feed(mixed)], [b"a", b"b"])
        self.assertGreater(cut, 0)

    def test_malformed(self) -> None:
        """What breaks the order of frames, their end or their size is Malformed."""
        header = encode_header(Message(body=b"abc"))
        for stream in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"AMQP\x00\x00\x09\x01",
            method_frame(1, CONFIRM)[:-1] + b"\x00" + b"more",
            content_frames(1, header, b"abc", FRAME_MIN),
            method_frame(1, DELIVERY) + method_frame(1, DELIVERY),
            method_frame(1, DELIVERY) + struct.pack(">BHL", 3, 1, 1) + b"a\xce",
            method_frame(1, DELIVERY) + content_frames(1, header, b"abcdef", FRAME_MIN),
            struct.pack(">BHL", 3, 1, 1 << 30),
            struct.pack(">BHL", 9, 0, 0) + b"\xce",
        ):
            self.assertRaises(Malformed, FrameReader(FRAME_MIN).feed, stream + bytes(8))

    @given(st.lists(st.binary(max_size=20), max_size=5))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Any bytes are frames or Malformed; nothing else is raised."""
        reader = FrameReader(FRAME_MIN)
        try:
            for chunk in chunks:
                reader.feed(chunk)
        except Malformed:
            pass

    def test_a_channel_that_ended_in_the_middle(self) -> None:
        """After ``forget`` a channel's number can be used again."""
        reader = FrameReader(FRAME_MIN)
        reader.feed(method_frame(1, DELIVERY))
        reader.forget(1)
        (unit,) = reader.feed(delivery(1, b"new"))
        self.assertEqual(unit.body, b"new")


def split(stream: bytes) -> list[bytes]:
    """A stream as a list of its frames."""
    frames = []
    while stream:
        end = 8 + struct.unpack(">L", stream[3:7])[0]
        frames.append(stream[:end])
        stream = stream[end:]
    return frames


class ContentFramesTest(SynchronousTestCase):
    """What we write."""

    @given(st.integers(0, 20_000))
    def test_frames_respect_the_limit(self, size: int) -> None:
        """No frame is larger than agreed, none is empty, and pamqp puts them together again."""
        body = bytes(size)
        frames = split(content_frames(3, encode_header(Message(body=body)), body, FRAME_MIN))
        self.assertLessEqual(max(map(len, frames)), FRAME_MIN)
        back = b""
        for number, one in enumerate(frames):
            _, channel, part = frame.unmarshal(one)
            self.assertEqual(channel, 3)
            if number == 0:
                assert isinstance(part, ContentHeader)
                self.assertEqual(part.body_size, size)
            else:
                assert isinstance(part, ContentBody)
                self.assertTrue(part.value)
                back += part.value
        self.assertEqual(back, body)

    def test_pamqp_writes_we_read(self) -> None:
        """A delivery written by pamqp arrives."""
        deliver = frame.marshal(commands.Basic.Deliver("tag", 5, True, "exchange", "key"), 4)
        content = content_frames(4, encode_header(Message(body=b"body", type="t")), b"body", FRAME_MIN)
        (unit,) = FrameReader(FRAME_MIN).feed(deliver + content)
        assert unit.header is not None
        self.assertEqual(decode_message(unit.header, unit.body).type, "t")
