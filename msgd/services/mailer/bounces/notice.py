"""What a mail to a bounce address says: a delivery status notification, or nothing of use. Pure.

Sources: RFC 3461, RFC 3464 (delivery status notifications), RFC 6522 (multipart/report).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from email.parser import BytesFeedParser
from email.policy import compat32
from typing import Any, Final

from msgspec import Struct

from msgd.services.mailer.replies import NO_SUCH_USER, enhanced_code, shown

NOTICE_BYTES: Final = 128 * 1024
"""Read of one mail: a notice has its status first, after a few sentences, and the mail it is about after that."""

PARTS: Final = 100
"""Taken of one mail, each group of fields of a report among them."""

DEPTH: Final = 10
"""Of parts in parts: the mail that comes back in a notice has five or so. The parser calls itself for each, and looks
at each line once for each that is open."""

FIELD_CHARACTERS: Final = 2000
"""Read of one field: the parser's time for parameters grows with the square of them."""

ADDRESSES: Final = 20
"""Read of one mail: one for each server that it was handed on by."""

ADDRESSED: Final = ("Delivered-To", "X-Original-To", "Envelope-To", "To")
"""Where the address stands that a mail came to: what servers write at delivery first, then what its sender wrote."""

_CODE: Final = re.compile(r"(?:^|;\s*)([245]\d\d)[ -]")


class Notice(Struct, frozen=True):
    """A mail could not be delivered."""

    addresses: tuple[str, ...]  # that it came to: one has the word by which it is known whose it is
    code: int | None  # the reply of the server that refused it, if it is told
    reply: str
    permanent: bool  # "failed", with a status that will not pass

    @property
    def no_such_user(self) -> bool:
        """Whether nothing will ever reach the address."""
        return self.permanent and enhanced_code(self.reply) in NO_SUCH_USER


def read_notice(content: bytes) -> Notice | None:
    """The notice in a mail; None if it is none, such as the answer of somebody who is away. A mail that was made to be
    hard to read takes some tenths of a second: this is for a thread."""
    message = _parsed(content[:NOTICE_BYTES])
    addresses = tuple(value for name in ADDRESSED for value in map(str, message.get_all(name, [])))[:ADDRESSES]
    for fields in _statuses(message):
        action = str(fields.get("Action", "")).strip().lower()
        if action != "failed":
            continue  # delayed, relayed, delivered: whatever becomes of it is told later
        status = str(fields.get("Status", "")).strip().split(" ")[0]
        diagnostic = str(fields.get("Diagnostic-Code", "")).partition(";")[2].strip()
        code = _CODE.search(diagnostic)
        return Notice(
            addresses, int(code[1]) if code else None, shown(f"{status} {diagnostic}"), status.startswith("5")
        )
    return None


class _TooMuch(Exception):
    """More parts than a notice has."""


class _Part(Message):
    """One that knows how deep it is in others, and has no endless fields."""

    depth = 0

    def set_raw(self, name: str, value: Any) -> None:
        super().set_raw(name, value[:FIELD_CHARACTERS])

    def attach(self, payload: Any) -> None:
        payload.depth = self.depth + 1
        if payload.depth > DEPTH:
            raise _TooMuch
        super().attach(payload)


def _parsed(content: bytes) -> Message:
    """A mail, as far as it is not too much of one."""
    made: list[Message] = []

    def make(*, policy: Any = compat32) -> Message:
        if len(made) == PARTS:
            raise _TooMuch
        made.append(_Part(policy=policy))
        return made[-1]

    parser: BytesFeedParser[Message] = BytesFeedParser(make)
    made.clear()  # it has made one, to see how it is done
    with suppress(_TooMuch):
        parser.feed(content)
        parser.close()
    return made[0]


def _statuses(message: Message) -> Iterator[Message]:
    """The fields of each recipient in a report."""
    for part in message.walk():
        if part.get_content_type() == "message/delivery-status":
            payload = part.get_payload()
            if isinstance(payload, list):  # the parser makes a message of each group of fields
                yield from (one for one in payload if isinstance(one, Message))
