"""Field tables, by themselves and beside pamqp's codec."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode as pamqp_decode
from pamqp import encode as pamqp_encode
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.codec import TABLE_DEPTH, Malformed, decode_table, encode_short_string, encode_table
from msgd.errors import InvalidInput

names = st.text(st.characters(codec="utf-8"), max_size=32)  # pamqp cuts them at 128 bytes
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
)
values = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(names, values, max_size=6)


def table(*items: tuple[str, bytes]) -> bytes:
    """A table of items given with their type octet and bytes."""
    body = b"".join(bytes((len(name),)) + name.encode() + item for name, item in items)
    return struct.pack(">L", len(body)) + body


def decoded(item: bytes) -> Any:
    """The one value of a table that holds ``item``."""
    data = table(("k", item))
    values, end = decode_table(data, 0)
    assert end == len(data)
    return values["k"]


class DecodeTest(SynchronousTestCase):
    """Every type that RabbitMQ knows."""

    def test_every_type(self) -> None:
        """Each type octet of RabbitMQ's errata is read for what it is."""
        cases: list[tuple[bytes, Any]] = [
            (b"t\x01", True),
            (b"t\x00", False),
            (b"b\xff", -1),
            (b"B\xff", 255),
            (b"s\xff\xfe", -2),
            (b"u\xff\xfe", 65534),
            (b"I\xff\xff\xff\xfd", -3),
            (b"i\xff\xff\xff\xfd", 4294967293),
            (b"l" + struct.pack(">q", -(1 << 40)), -(1 << 40)),
            (b"f" + struct.pack(">f", 1.5), 1.5),
            (b"d" + struct.pack(">d", 0.1), 0.1),
            (b"D\x02\x00\x00\x01\x3a", 3.14),
            (b"S\x00\x00\x00\x03k\xc5\xaf", "ků"),
            (b"x\x00\x00\x00\x02\xff\x00", b"\xff\x00"),
            (b"A\x00\x00\x00\x04t\x01V" + b"V", [True, None, None]),
            (b"T" + struct.pack(">Q", 1_700_000_000), 1_700_000_000),
            (b"F" + table(("a", b"I\x00\x00\x00\x07")), {"a": 7}),
            (b"V", None),
        ]
        for item, value in cases:
            self.assertEqual(decoded(item), value, item)
            self.assertIs(type(decoded(item)), type(value), item)

    def test_long_string_that_is_not_utf8(self) -> None:
        """A long string of other bytes comes as bytes, not as an error."""
        self.assertEqual(decoded(b"S\x00\x00\x00\x02\xff\xfe"), b"\xff\xfe")

    def test_death_record(self) -> None:
        """An x-death header, an array of tables, is read."""
        death = table(
            ("count", b"l" + struct.pack(">q", 1)),
            ("reason", b"S\x00\x00\x00\x08rejected"),
            ("time", b"T" + struct.pack(">Q", 1_700_000_000)),
            ("routing-keys", b"A\x00\x00\x00\x06S\x00\x00\x00\x01k"),
        )
        self.assertEqual(
            decoded(b"A" + struct.pack(">L", len(death) + 1) + b"F" + death),
            [{"count": 1, "reason": "rejected", "time": 1_700_000_000, "routing-keys": ["k"]}],
        )

    def test_malformed(self) -> None:
        """What is cut short, overlong, of unknown type or nested without end is refused as Malformed."""
        deep = b"V"
        for _ in range(TABLE_DEPTH + 1):
            deep = b"A" + struct.pack(">L", len(deep)) + deep
        for data in (
            b"",
            b"\x00\x00\x00",
            b"\x00\x00\x00\x05\x01k",
            table(("k", b"Z")),
            table(("k", b"S\x00\x00\x00\x09short")),
            table(("k", b"I\x00")),
            table(("k", b"A\x00\x00\x00\x02t")),
            table(("k", b"F\x00\x00\x00\xff")),
            table(("k", deep)),
        ):
            self.assertRaises(Malformed, decode_table, data, 0)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are either a table or Malformed; nothing else is raised."""
        try:
            decode_table(struct.pack(">L", len(data)) + data, 0)
        except Malformed:
            pass

    @given(tables)
    def test_every_cut_is_noticed(self, values: dict[str, Any]) -> None:
        """A table cut short anywhere is Malformed."""
        data = encode_table(values)
        for end in range(len(data)):
            self.assertRaises(Malformed, decode_table, data[:end], 0)


class RoundTripTest(SynchronousTestCase):
    """What is written is read."""

    @given(tables)
    def test_round_trip(self, values: dict[str, Any]) -> None:
        """Every value that a header may hold comes back equal and of the same type."""
        data = encode_table(values)
        back, end = decode_table(b"xx" + data + b"yy", 2)
        self.assertEqual((back, end), (values, len(data) + 2))
        self.assertEqual(repr(back), repr(values))  # True is not 1, -0.0 is not 0.0

    def test_not_a_number(self) -> None:
        """NaN passes."""
        back, _ = decode_table(encode_table({"k": math.nan}), 0)
        found = back["k"]
        assert isinstance(found, float)
        self.assertTrue(math.isnan(found))

    def test_a_tuple_is_a_list(self) -> None:
        """Other sequences and mappings travel as arrays and tables."""
        back, _ = decode_table(encode_table({"k": (1, (2,))}), 0)
        self.assertEqual(back, {"k": [1, [2]]})

    @given(st.dictionaries(names, scalars | st.lists(scalars, max_size=3), max_size=5))
    def test_pamqp_reads_ours(self, values: dict[str, Any]) -> None:
        """pamqp, an independent codec, reads what we write."""
        data = encode_table(values)
        consumed, back = pamqp_decode.field_table(data)
        self.assertEqual((consumed, back), (len(data), values))

    @given(
        st.dictionaries(
            names,
            st.recursive(
                st.one_of(
                    st.none(),
                    st.booleans(),
                    st.integers(-(1 << 63), (1 << 63) - 1),
                    st.floats(width=32, allow_nan=False),
                    st.text(st.characters(codec="utf-8")),
                    st.binary().map(bytearray),
                    st.decimals(0, 1000, places=2),
                ),
                lambda inner: st.lists(inner, max_size=3),
                max_leaves=8,
            ),
            max_size=5,
        )
    )
    def test_we_read_pamqp(self, values: dict[str, Any]) -> None:
        """We read what pamqp writes: also 32-bit floats, decimals, and integers of every width."""
        back, _ = decode_table(pamqp_encode.field_table(values), 0)
        self.assertEqual(back, plain(values))


def plain(value: Any) -> Any:
    """A value of pamqp's as the codec has it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, bytearray):
        return bytes(value)
    return float(value) if isinstance(value, Decimal) else value


class EncodeTest(SynchronousTestCase):
    """What AMQP cannot say."""

    def test_refused(self) -> None:
        """Integers over 64 bits, lone surrogates, long names, foreign types and endless nesting are InvalidInput."""
        endless: list[Any] = []
        endless.append(endless)
        for value in ({"k": 1 << 63}, {"k": -(1 << 63) - 1}, {"k": "\ud800"}, {"n" * 256: 1}, {"k": object()}):
            self.assertRaises(InvalidInput, encode_table, value)
        self.assertRaises(InvalidInput, encode_table, {"k": endless})
        self.assertRaises(InvalidInput, encode_table, {"k": {"a": endless}})

    def test_short_strings_count_bytes(self) -> None:
        """The 255 of a short string are bytes of UTF-8, not characters."""
        self.assertEqual(encode_short_string("ů" * 127, "key"), b"\xfe" + "ů".encode() * 127)
        error = self.assertRaises(InvalidInput, encode_short_string, "ů" * 128, "key")
        self.assertEqual(error.where, "key")
