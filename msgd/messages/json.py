"""UTF-8 JSON in and out. Bodies are kept as the bytes received; this is where they are first looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from msgd.errors import InvalidInput, NotJson, TooLarge
from msgd.messages.limits import BODY_BYTES

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON of a value or Struct."""
    return _encoder.encode(value)


def check(body: bytes, *, where: str = "body") -> bytes:
    """Return ``body`` if it is JSON of at most 1 MiB, else raise NotJson or TooLarge."""
    if len(body) > BODY_BYTES:
        raise TooLarge(f"a body has at most {BODY_BYTES} bytes; this one has {len(body)}", where=where)
    try:
        # In full, as whoever reads it will: msgspec.Raw lets broken UTF-8 and numbers beyond a float pass.
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NotJson(f"not UTF-8 JSON: {error}", where=where) from None
    return body


def decode(body: bytes, form: type[T], *, where: str = "body", error: type[InvalidInput] = InvalidInput) -> T:
    """``body`` as ``form``; raises NotJson for what is no JSON, ``error`` for what does not fit, naming the field."""
    return decode_by(lambda body: msgspec.json.decode(body, type=form), body, where=where, error=error)


def decode_by(
    decoder: Callable[[bytes], T], body: bytes, *, where: str = "body", error: type[InvalidInput] = InvalidInput
) -> T:
    """The same with a decoder of msgspec's that is kept, for what is decoded all the time."""
    try:
        return decoder(body)
    except msgspec.ValidationError as wrong:
        message, _, path = str(wrong).partition(" - at `")
        field = path.rstrip("`").removeprefix("$")
        raise error(_in_words(message), where=where + field if where else field.removeprefix(".")) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as wrong:
        raise NotJson(f"not UTF-8 JSON: {wrong}", where=where) from None


def _in_words(message: str) -> str:
    """What msgspec says of a field that is missing or too many, in words that need no knowledge of Python."""
    for beginning, said in (
        ("Object missing required field ", "is missing"),
        ("Object contains unknown field ", "is unknown"),
    ):
        if message.startswith(beginning):
            return f"the field {message.removeprefix(beginning)} {said}"
    return message
