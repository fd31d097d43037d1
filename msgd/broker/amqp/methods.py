"""AMQP 0-9-1 methods other than the few on the fast path: their arguments to and from bytes, by the specification."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from txamqp.spec import Method, Spec

from msgd.broker.amqp.codec import Malformed, decode_table, encode_short_string, encode_table

_IDS = struct.Struct(">HH")
_LONG = struct.Struct(">L")
_FORMS: Final = {
    "octet": struct.Struct(">B"),
    "short": struct.Struct(">H"),
    "long": struct.Struct(">L"),
    "longlong": struct.Struct(">Q"),
    "timestamp": struct.Struct(">Q"),
}


def encode_method(method: Method, arguments: Sequence[Any]) -> bytes:
    """The payload of a method frame. Raises InvalidInput for a string that does not fit."""
    parts = [_IDS.pack(method.klass.id, method.id)]
    bits: list[bool] = []
    for field, value in zip(method.fields, arguments, strict=True):
        if field.type == "bit":
            bits.append(bool(value))
            continue
        if bits:
            parts.append(_pack_bits(bits))
            bits = []
        parts.append(_encode(field.type, field.name, value))
    if bits:
        parts.append(_pack_bits(bits))
    return b"".join(parts)


def _pack_bits(bits: list[bool]) -> bytes:
    number = sum(1 << place for place, bit in enumerate(bits) if bit)
    return number.to_bytes((len(bits) + 7) // 8, "little")


def _encode(kind: str, name: str, value: Any) -> bytes:
    if kind == "shortstr":
        return encode_short_string(value, name)
    if kind == "longstr":
        encoded = value if isinstance(value, bytes) else value.encode()
        return _LONG.pack(len(encoded)) + encoded
    if kind == "table":
        return encode_table(value)
    return _FORMS[kind].pack(value)


def decode_method(spec: Spec, payload: bytes) -> tuple[Method, tuple[Any, ...]]:
    """The method in a method frame, and its arguments in the order of its fields. Raises Malformed."""
    try:
        class_id, method_id = _IDS.unpack_from(payload)
        method = spec.classes.byid[class_id].methods.byid[method_id]
        return method, _decode_arguments(method, payload, _IDS.size)
    except KeyError:
        raise Malformed(f"unknown method {class_id}.{method_id}") from None
    except (IndexError, struct.error) as error:
        raise Malformed(f"a method frame ends too early: {error}") from None


def _decode_arguments(method: Method, payload: bytes, position: int) -> tuple[Any, ...]:
    arguments: list[Any] = []
    bit = 0
    for field in method.fields:
        if field.type == "bit":
            arguments.append(bool(payload[position] >> bit & 1))
            bit += 1
            if bit == 8:
                bit, position = 0, position + 1
            continue
        if bit:
            bit, position = 0, position + 1
        value, position = _decode(field.type, payload, position)
        arguments.append(value)
    return tuple(arguments)


def _decode(kind: str, payload: bytes, position: int) -> tuple[Any, int]:
    if kind == "table":
        return decode_table(payload, position)
    read = _STRINGS.get(kind)
    if read is not None:
        start, end = read(payload, position)
        if end > len(payload):
            raise Malformed("a string is longer than its method frame")
        return payload[start:end].decode("utf-8", "replace"), end
    form = _FORMS[kind]
    return form.unpack_from(payload, position)[0], position + form.size


_STRINGS: Final[dict[str, Callable[[bytes, int], tuple[int, int]]]] = {
    "shortstr": lambda payload, at: (at + 1, at + 1 + payload[at]),
    "longstr": lambda payload, at: (at + 4, at + 4 + _LONG.unpack_from(payload, at)[0]),
}
