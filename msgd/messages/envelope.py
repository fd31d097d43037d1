"""An AMQP message without a broker: body, properties and headers under AMQP's own names (AMQP 0-9-1 §4.2.6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Union

import msgspec
from msgspec import Struct

HeaderValue = Union[None, bool, int, float, str, bytes, Sequence[Any], Mapping[str, Any]]
"""What a header may hold; sequences and mappings hold the same again."""

NO_HEADERS: Final[Mapping[str, HeaderValue]] = MappingProxyType({})


class Message(Struct, frozen=True, kw_only=True):
    """One message as any AMQP client could have sent it. Absent properties are empty strings or None."""

    body: bytes
    content_type: str = "application/json"
    content_encoding: str = ""
    message_id: str = ""
    type: str = ""
    app_id: str = ""
    timestamp: int | None = None  # seconds since 1970, as AMQP has it
    reply_to: str = ""
    correlation_id: str = ""
    persistent: bool = True  # delivery_mode 2
    priority: int | None = None
    expiration: str = ""
    user_id: str = ""
    headers: Mapping[str, HeaderValue] = NO_HEADERS


class _Stored(Struct, array_like=True, omit_defaults=True):
    """The stored form: positions, not names, so fields are only ever added at the end."""

    body: bytes
    content_type: str
    message_id: str
    type: str
    app_id: str
    timestamp: int | None
    reply_to: str
    correlation_id: str
    persistent: bool
    priority: int | None
    headers: dict[str, Any]
    content_encoding: str = ""
    expiration: str = ""
    user_id: str = ""


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Stored).decode


def to_bytes(message: Message) -> bytes:
    """A message as bytes for a table column (MessagePack); :func:`from_bytes` gives it back."""
    return _pack(
        _Stored(
            message.body,
            message.content_type,
            message.message_id,
            message.type,
            message.app_id,
            message.timestamp,
            message.reply_to,
            message.correlation_id,
            message.persistent,
            message.priority,
            dict(message.headers),
            message.content_encoding,
            message.expiration,
            message.user_id,
        )
    )


def from_bytes(stored: bytes) -> Message:
    """The message that :func:`to_bytes` stored."""
    row = _unpack(stored)
    return Message(
        body=row.body,
        content_type=row.content_type,
        message_id=row.message_id,
        type=row.type,
        app_id=row.app_id,
        timestamp=row.timestamp,
        reply_to=row.reply_to,
        correlation_id=row.correlation_id,
        persistent=row.persistent,
        priority=row.priority,
        headers=row.headers,
        content_encoding=row.content_encoding,
        expiration=row.expiration,
        user_id=row.user_id,
    )
