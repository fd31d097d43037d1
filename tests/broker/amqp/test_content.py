"""Content headers, by themselves and beside pamqp's."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, header
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.codec import Malformed
from msgd.broker.amqp.content import decode_message, encode_header
from msgd.errors import InvalidInput
from msgd.messages.envelope import Message

texts = st.text(st.characters(codec="utf-8"), max_size=60)
names = texts.filter(lambda text: len(text.encode()) <= 128)
"""pamqp cuts header names at 128 bytes (AMQP 0-9-1 §4.2.5.5 asks for at most 128 characters)."""
messages = st.builds(
    Message,
    body=st.binary(max_size=20),
    content_type=texts,
    content_encoding=texts,
    message_id=texts,
    type=texts,
    app_id=texts,
    timestamp=st.none() | st.integers(0, (1 << 64) - 1),
    reply_to=texts,
    correlation_id=texts,
    persistent=st.booleans(),
    priority=st.none() | st.integers(0, 255),
    expiration=texts,
    user_id=texts,
    headers=st.dictionaries(texts, st.none() | st.booleans() | st.integers(-1000, 1 << 40) | texts, max_size=4),
)


class ContentTest(SynchronousTestCase):
    """:func:`encode_header` and :func:`decode_message`."""

    @given(messages)
    def test_round_trip(self, message: Message) -> None:
        """Every property comes back as it was."""
        self.assertEqual(decode_message(encode_header(message), message.body), message)

    @given(messages.filter(lambda message: (message.timestamp or 0) < 1 << 32))  # pamqp's end with the year 9999
    def test_pamqp_reads_ours(self, message: Message) -> None:
        """pamqp, an independent codec, finds the same properties in our header."""
        theirs = header.ContentHeader()
        theirs.unmarshal(encode_header(message))
        self.assertEqual(theirs.body_size, len(message.body))
        found = theirs.properties
        for ours, name in ((message.type, "message_type"), (message.message_id, "message_id")):
            self.assertEqual(getattr(found, name) or "", ours)
        for name in ("content_type", "content_encoding", "app_id", "reply_to", "correlation_id", "expiration"):
            self.assertEqual(getattr(found, name) or "", getattr(message, name))
        self.assertEqual(found.delivery_mode, 2 if message.persistent else 1)
        self.assertEqual(found.priority, message.priority)
        self.assertEqual(found.headers or {}, message.headers)

    @given(st.fixed_dictionaries({}, optional={
        "content_type": texts, "message_id": texts, "message_type": texts, "app_id": texts, "reply_to": texts,
        "delivery_mode": st.sampled_from([1, 2]), "priority": st.integers(0, 9), "user_id": texts,
        "headers": st.dictionaries(names, st.integers(0, 9), min_size=1, max_size=3),
    }))  # fmt: skip
    def test_we_read_pamqp(self, properties: dict[str, Any]) -> None:
        """We read the header of any client; absent properties are empty, and absent means not persistent."""
        data = header.ContentHeader(0, 3, commands.Basic.Properties(**properties)).marshal()
        message = decode_message(data, b"abc")
        self.assertEqual(message.body, b"abc")
        self.assertEqual(message.content_type, properties.get("content_type", ""))
        self.assertEqual(message.type, properties.get("message_type", ""))
        self.assertEqual(message.user_id, properties.get("user_id", ""))
        self.assertEqual(message.persistent, properties.get("delivery_mode") == 2)
        self.assertEqual(message.priority, properties.get("priority"))
        self.assertEqual(message.headers, properties.get("headers", {}))

    def test_latin1(self) -> None:
        """A property that is not UTF-8 does not cost the message; however much of it is wrong, it can be sent on."""
        data = struct.pack(">HHQH", 60, 0, 1, 0x8080) + b"\x04text" + b"\x03k\xf9\xf2"
        message = decode_message(data, b"x")
        self.assertEqual((message.content_type, message.message_id), ("text", "k??"))
        data = struct.pack(">HHQH", 60, 0, 1, 0x0480) + (b"\xff" + b"\xff" * 255) * 2
        message = decode_message(data, b"x")
        self.assertEqual(decode_message(encode_header(message), b"x"), message)
        table = b"\xff" + b"\xf9" * 255 + b"V"
        data = struct.pack(">HHQHL", 60, 0, 1, 0x2000, len(table)) + table
        message = decode_message(data, b"x")
        self.assertEqual(decode_message(encode_header(message), b"x"), message)

    def test_more_flags(self) -> None:
        """Flag words of properties that 0-9-1 does not have are passed over."""
        data = struct.pack(">HHQHHH", 60, 0, 1, 0x8001, 0x0001, 0x0000) + b"\x04text"
        self.assertEqual(decode_message(data, b"x").content_type, "text")

    @given(messages)
    def test_every_cut_is_noticed(self, message: Message) -> None:
        """A header cut short anywhere is Malformed."""
        data = encode_header(message)
        for end in range(12, len(data)):
            self.assertRaises(Malformed, decode_message, data[:end], b"")

    def test_refused(self) -> None:
        """What AMQP cannot say is InvalidInput, and names the property."""
        for name, value in (
            ("message_id", "x" * 256),
            ("type", "ů" * 128),
            ("app_id", "\ud800"),
            ("priority", 256),
            ("timestamp", -1),
        ):
            broken: dict[str, Any] = {"body": b"", name: value}
            error = self.assertRaises(InvalidInput, encode_header, Message(**broken))
            self.assertEqual(error.where, name)
