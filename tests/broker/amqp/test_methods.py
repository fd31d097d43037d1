"""The specification made from pamqp's table, and the methods encoded by it."""

from __future__ import annotations

from typing import Any
from unittest import mock

from pamqp import base, commands, frame
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.codec import Malformed
from msgd.broker.amqp.methods import decode_method, encode_method
from msgd.broker.amqp.spec import specification
from msgd.errors import InvalidInput

SAMPLES: dict[str, Any] = {
    "bit": True,
    "octet": 9,
    "short": 0x1234,
    "long": 0x12345678,
    "longlong": 1 << 60,
    "shortstr": "kůň",
    "longstr": "žluťoučký",
    "table": {"a": [{"b": False}], "c": "ď"},  # no integers: pamqp chooses other widths
    "timestamp": 1_700_000_000,
}


class SpecificationTest(SynchronousTestCase):
    """:func:`specification`."""

    def test_rabbitmq_extensions(self) -> None:
        """Confirms, nack, the server's cancel, connection.blocked and exchange bindings are there."""
        spec = specification()
        for klass, method in (
            ("confirm", "select"),
            ("confirm", "select-ok"),
            ("basic", "nack"),
            ("basic", "cancel"),
            ("connection", "blocked"),
            ("connection", "unblocked"),
            ("exchange", "bind"),
            ("exchange", "unbind"),
        ):
            self.assertIn(method, spec.classes.byname[klass].methods.byname)
        self.assertEqual(len(spec.classes), 7)
        self.assertEqual(sum(len(klass.methods) for klass in spec.classes), 64)

    def test_content_and_responses(self) -> None:
        """Methods with content are marked, and each method knows its answers."""
        basic = specification().classes.byname["basic"].methods.byname
        self.assertEqual(
            {name for name, method in basic.items() if method.content}, {"publish", "return", "deliver", "get-ok"}
        )
        self.assertEqual([method.name for method in basic["get"].responses], ["get-ok", "get-empty"])
        self.assertTrue(basic["consume-ok"].response)
        self.assertFalse(basic["cancel"].response)


class MethodsTest(SynchronousTestCase):
    """:func:`encode_method` and :func:`decode_method`."""

    def test_every_method_beside_pamqp(self) -> None:
        """Every method comes back as it was, and pamqp writes the same bytes."""
        spec = specification()
        table: dict[int, type[base.Frame]] = commands.INDEX_MAPPING
        for index, command in table.items():
            method = spec.classes.byid[index >> 16].methods.byid[index & 0xFFFF]
            values = [SAMPLES[field.type] for field in method.fields]
            payload = encode_method(method, values)
            self.assertEqual(decode_method(spec, payload), (method, tuple(values)))
            theirs = command.__new__(command)
            for name, value in zip(command.attributes(), values, strict=True):
                setattr(theirs, name, value)
            with mock.patch.object(command, "validate", lambda _: None):  # the samples are no legal names
                expected = frame.marshal(theirs, 1)
            self.assertEqual(payload, expected[7:-1], command.name)

    def test_bits_share_octets(self) -> None:
        """Neighbouring bits share an octet, the first in its lowest place."""
        declare = specification().classes.byname["queue"].methods.byname["declare"]
        payload = encode_method(declare, (0, "q", False, True, False, True, False, {}))
        self.assertEqual(payload, b"\x00\x32\x00\x0a\x00\x00\x01q\x0a\x00\x00\x00\x00")

    def test_malformed(self) -> None:
        """Unknown methods and truncated arguments are Malformed."""
        spec = specification()
        for payload in (b"", b"\x00\x3c", b"\x00\x3c\xff\xff", b"\x00\x32\x00\x0b\x05ab", b"\x00\x0a\x00\x1e\x00"):
            self.assertRaises(Malformed, decode_method, spec, payload)

    def test_long_name(self) -> None:
        """A name over 255 bytes is InvalidInput, not a broken frame."""
        declare = specification().classes.byname["queue"].methods.byname["declare"]
        arguments: Any = (0, "q" * 256, False, True, False, True, False, {})
        self.assertRaises(InvalidInput, encode_method, declare, arguments)
