"""The content header of a message: its properties (AMQP 0-9-1 §4.2.6.1), to and from :class:`Message`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from msgd.broker.amqp.codec import (
    LENGTHS,
    Malformed,
    decode_table,
    decode_text,
    decode_word,
    encode_short_string,
    encode_table,
    encode_word,
)
from msgd.errors import InvalidInput
from msgd.messages.envelope import NO_HEADERS, HeaderValue, Message

BASIC: Final = 60  # the class of all content
PERSISTENT: Final = 2  # delivery_mode

_SHORT = struct.Struct(">H").unpack_from
_LONGLONG = struct.Struct(">Q").unpack_from
_pack_timestamp = struct.Struct(">Q").pack
_pack_header = struct.Struct(">HHQH").pack


def decode_message(header: bytes, body: bytes) -> Message:
    """The message whose content header frame holds ``header``. Raises Malformed."""
    try:
        return _message(header, body)
    except (IndexError, struct.error) as error:
        raise Malformed(f"a content header ends too early: {error}") from None


def _message(header: bytes, body: bytes) -> Message:  # noqa: C901  one branch a property
    (flags,) = _SHORT(header, 12)
    position = 14
    if flags & 1:  # more flags: of properties that 0-9-1 does not have
        while _SHORT(header, position)[0] & 1:
            position += 2
        position += 2
    content_type = content_encoding = correlation_id = reply_to = expiration = message_id = type_ = user_id = app_id = (
        ""
    )
    headers: Mapping[str, HeaderValue] = NO_HEADERS
    persistent = False
    priority: int | None = None
    timestamp: int | None = None
    if flags & 0x8000:
        start = position + 1
        position = start + header[position]
        content_type = decode_word(header[start:position])
    if flags & 0x4000:
        start = position + 1
        position = start + header[position]
        content_encoding = decode_word(header[start:position])
    if flags & 0x2000:
        headers, position = decode_table(header, position)
    if flags & 0x1000:
        persistent = header[position] == PERSISTENT
        position += 1
    if flags & 0x0800:
        priority = header[position]
        position += 1
    if flags & 0x0400:
        start = position + 1
        position = start + header[position]
        correlation_id = decode_text(header[start:position])
    if flags & 0x0200:
        start = position + 1
        position = start + header[position]
        reply_to = decode_text(header[start:position])
    if flags & 0x0100:
        start = position + 1
        position = start + header[position]
        expiration = decode_text(header[start:position])
    if flags & 0x0080:
        start = position + 1
        position = start + header[position]
        message_id = decode_text(header[start:position])
    if flags & 0x0040:
        (timestamp,) = _LONGLONG(header, position)
        position += 8
    if flags & 0x0020:
        start = position + 1
        position = start + header[position]
        type_ = decode_word(header[start:position])
    if flags & 0x0010:
        start = position + 1
        position = start + header[position]
        user_id = decode_word(header[start:position])
    if flags & 0x0008:
        start = position + 1
        position = start + header[position]
        app_id = decode_word(header[start:position])
    if position > len(header):
        raise Malformed("a property is longer than its content header")
    return Message(
        body=body,
        content_type=content_type,
        content_encoding=content_encoding,
        message_id=message_id,
        type=type_,
        app_id=app_id,
        timestamp=timestamp,
        reply_to=reply_to,
        correlation_id=correlation_id,
        persistent=persistent,
        priority=priority,
        expiration=expiration,
        user_id=user_id,
        headers=headers,
    )


def encode_header(message: Message) -> bytes:  # noqa: C901  one branch a property
    """The content header frame's payload for ``message``. Raises InvalidInput for what AMQP cannot say."""
    flags = 0x1000
    parts = [b""]  # the fixed part, once the flags are known
    if message.content_type:
        flags |= 0x8000
        parts.append(encode_word(message.content_type, "content_type"))
    if message.content_encoding:
        flags |= 0x4000
        parts.append(encode_word(message.content_encoding, "content_encoding"))
    if message.headers:
        flags |= 0x2000
        parts.append(encode_table(message.headers))
    parts.append(b"\x02" if message.persistent else b"\x01")
    if message.priority is not None:
        flags |= 0x0800
        if not 0 <= message.priority <= 255:
            raise InvalidInput(f"priority is 0 to 255, not {message.priority}", where="priority")
        parts.append(LENGTHS[message.priority])
    if message.correlation_id:
        flags |= 0x0400
        parts.append(encode_short_string(message.correlation_id, "correlation_id"))
    if message.reply_to:
        flags |= 0x0200
        parts.append(encode_short_string(message.reply_to, "reply_to"))
    if message.expiration:
        flags |= 0x0100
        parts.append(encode_short_string(message.expiration, "expiration"))
    if message.message_id:
        flags |= 0x0080
        parts.append(encode_short_string(message.message_id, "message_id"))
    if message.timestamp is not None:
        flags |= 0x0040
        if not 0 <= message.timestamp < 1 << 64:
            raise InvalidInput(f"timestamp is seconds since 1970, not {message.timestamp}", where="timestamp")
        parts.append(_pack_timestamp(message.timestamp))
    if message.type:
        flags |= 0x0020
        parts.append(encode_word(message.type, "type"))
    if message.user_id:
        flags |= 0x0010
        parts.append(encode_word(message.user_id, "user_id"))
    if message.app_id:
        flags |= 0x0008
        parts.append(encode_word(message.app_id, "app_id"))
    parts[0] = _pack_header(BASIC, 0, len(message.body), flags)
    return b"".join(parts)
