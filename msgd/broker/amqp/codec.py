"""AMQP 0-9-1 values: field tables and short strings.

Types as RabbitMQ has them (its "errata"), which is what every client speaks: ``t b B s u I i l f d D S A T F V x``.
Strings are UTF-8; a long string that is not comes as ``bytes``. Timestamps (``T``) come as seconds, decimals (``D``) as
floats. Written are ``t I l d S x A F V``: enough for all that a header may hold.

Hand-written over struct, since this is where a broker client spends its time: pamqp takes four times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from msgd.errors import InvalidInput, PeerError
from msgd.messages.envelope import HeaderValue

TABLE_DEPTH: Final = 64
"""Nesting at which a table is refused; each level costs an interpreter frame."""

WORDS: Final = 1024
"""Short strings whose text is remembered: names of headers, types, exchanges, which messages have in common."""

_INT32: Final = range(-(1 << 31), 1 << 31)
_INT64: Final = range(-(1 << 63), 1 << 63)

_LONG = struct.Struct(">L").unpack_from
_DECIMAL = struct.Struct(">BL").unpack_from
_INT = struct.Struct(">i").unpack_from
_pack_long = struct.Struct(">L").pack
_pack_int32 = struct.Struct(">ci").pack
_pack_int64 = struct.Struct(">cq").pack
_pack_double = struct.Struct(">cd").pack

LENGTHS: Final = tuple(bytes((length,)) for length in range(256))
"""An octet of each value, ready made."""


class Malformed(PeerError):
    """Bytes that are not AMQP 0-9-1."""

    code = "malformed"


# -- reading -----------------------------------------------------------------------------------------------------------


def decode_text(raw: bytes) -> str:
    """The text of a short string; what is not UTF-8 in it (some client's Latin-1) is no reason to lose a message.

    Each byte that is wrong becomes one ``?``: the text is no longer than what came, so that it can be sent on.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()


decode_word = lru_cache(maxsize=WORDS)(decode_text)
"""The same, for what comes again and again."""


def decode_table(data: bytes, position: int) -> tuple[dict[str, HeaderValue], int]:
    """The table at ``position``, its length first, and the position after it. Raises Malformed."""
    try:
        return table_at(data, position, TABLE_DEPTH)
    except (IndexError, struct.error) as error:
        raise Malformed(f"a field table ends too early: {error}") from None


def table_at(data: bytes, position: int, depth: int) -> tuple[dict[str, HeaderValue], int]:
    if depth == 0:
        raise Malformed(f"a field table is nested deeper than {TABLE_DEPTH}")
    (size,) = _LONG(data, position)
    position += 4
    end = position + size
    if end > len(data):
        raise Malformed("a field table is longer than its frame")
    table: dict[str, HeaderValue] = {}
    while position < end:
        start = position + 1
        position = start + data[position]
        name = decode_word(data[start:position])
        if data[position] == _INT_TYPE:  # as most are: a call less
            (table[name],) = _INT(data, position + 1)
            position += 5
        else:
            table[name], position = _value(data, position, depth)
    if position != end:
        raise Malformed("a field table's last value is longer than the table")
    return table, end


def _value(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    read = _READERS.get(data[position])
    if read is None:
        raise Malformed(f"unknown type {data[position : position + 1]!r} in a field table")
    return read(data, position + 1, depth)


_Reader = Callable[[bytes, int, int], tuple[Any, int]]


def _fixed(form: str) -> _Reader:
    unpack, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read(data: bytes, position: int, _depth: int) -> tuple[Any, int]:
        return unpack(data, position)[0], position + size

    return read


def _bytes(data: bytes, position: int, _depth: int) -> tuple[bytes, int]:
    end = position + 4 + _LONG(data, position)[0]
    if end > len(data):
        raise Malformed("a string is longer than its frame")
    return data[position + 4 : end], end


def _string(data: bytes, position: int, depth: int) -> tuple[str | bytes, int]:
    raw, end = _bytes(data, position, depth)
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        return raw, end


def _array(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    if depth == 0:
        raise Malformed(f"a field array is nested deeper than {TABLE_DEPTH}")
    end = position + 4 + _LONG(data, position)[0]
    if end > len(data):
        raise Malformed("a field array is longer than its frame")
    position += 4
    values = []
    while position < end:
        value, position = _value(data, position, depth - 1)
        values.append(value)
    if position != end:
        raise Malformed("a field array's last value is longer than the array")
    return values, end


def _decimal(data: bytes, position: int, _depth: int) -> tuple[float, int]:
    scale, number = _DECIMAL(data, position)
    return float(number / 10**scale), position + 5


_INT_TYPE: Final = ord("I")

_READERS: Final[dict[int, _Reader]] = {
    ord("t"): lambda data, position, _: (data[position] != 0, position + 1),
    ord("b"): _fixed(">b"),
    ord("B"): _fixed(">B"),
    ord("s"): _fixed(">h"),
    ord("u"): _fixed(">H"),
    ord("I"): _fixed(">i"),
    ord("i"): _fixed(">I"),
    ord("l"): _fixed(">q"),
    ord("f"): _fixed(">f"),
    ord("d"): _fixed(">d"),
    ord("D"): _decimal,
    ord("S"): _string,
    ord("x"): _bytes,
    ord("A"): _array,
    ord("T"): _fixed(">Q"),
    ord("F"): lambda data, position, depth: table_at(data, position, depth - 1),
    ord("V"): lambda _data, position, _: (None, position),
}


# -- writing -----------------------------------------------------------------------------------------------------------


def encode_short_string(text: str, where: str) -> bytes:
    """Length and UTF-8 of ``text``; raises InvalidInput, naming ``where``, for one over 255 bytes."""
    try:
        encoded = text.encode()
        return LENGTHS[len(encoded)] + encoded
    except IndexError:
        raise InvalidInput(f"{where} has at most 255 bytes in AMQP; this one has {len(encoded)}", where=where) from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{where} holds characters that UTF-8 cannot: {text!r:.80}", where=where) from None


encode_word = lru_cache(maxsize=WORDS)(encode_short_string)
"""The same, for what is said again and again."""


def encode_table(table: Mapping[str, HeaderValue]) -> bytes:
    """A table with its length in front. Raises InvalidInput for what AMQP cannot say."""
    return table_bytes(table, TABLE_DEPTH)


def table_bytes(table: Mapping[str, Any], depth: int) -> bytes:
    if depth == 0:
        raise InvalidInput(f"headers nest at most {TABLE_DEPTH} deep", where="headers")
    parts = []
    for name, value in table.items():
        parts.append(encode_word(name, "header"))
        if type(value) is int and value in _INT32:  # as most are: two calls less
            parts.append(_pack_int32(b"I", value))
        else:
            parts.append(_encode_value(name, value, depth))
    encoded = b"".join(parts)
    return _pack_long(len(encoded)) + encoded


def _encode_value(name: str, value: Any, depth: int) -> bytes:
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(name, value, depth)
    for kind, write in _WRITERS.items():  # subclasses, and other sequences and mappings
        if isinstance(value, kind):
            return write(name, value, depth)
    if isinstance(value, Mapping):
        return b"F" + table_bytes(value, depth - 1)
    raise InvalidInput(f"header {name} cannot hold a {type(value).__name__}", where=name)


def _encode_int(name: str, value: int, _depth: int) -> bytes:
    if value in _INT32:
        return _pack_int32(b"I", value)
    if value in _INT64:
        return _pack_int64(b"l", value)
    raise InvalidInput(f"header {name} does not fit 64 bits: {value!r:.40}", where=name)


def _encode_string(name: str, value: str, _depth: int) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"header {name} holds characters that UTF-8 cannot", where=name) from None
    return b"S" + _pack_long(len(encoded)) + encoded


def _encode_array(name: str, value: list[Any] | tuple[Any, ...], depth: int) -> bytes:
    if depth == 0:
        raise InvalidInput(f"headers nest at most {TABLE_DEPTH} deep", where=name)
    encoded = b"".join([_encode_value(name, each, depth - 1) for each in value])
    return b"A" + _pack_long(len(encoded)) + encoded


_WRITERS: Final[dict[type, Callable[[str, Any, int], bytes]]] = {
    str: _encode_string,
    bool: lambda _name, value, _: b"t\x01" if value else b"t\x00",  # before int: a bool is one
    int: _encode_int,
    float: lambda _name, value, _: _pack_double(b"d", value),
    type(None): lambda _name, _value, _: b"V",
    bytes: lambda _name, value, _: b"x" + _pack_long(len(value)) + value,
    list: _encode_array,
    tuple: _encode_array,
    dict: lambda _name, value, depth: b"F" + table_bytes(value, depth - 1),
}
