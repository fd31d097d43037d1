"""What a ``message`` job is asked to do."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from twisted.words.protocols.jabber.jid import JID, InvalidFormat

from msgd.work.interface import JobType

BODY_CHARACTERS: Final = 20_000
"""A long message: servers take stanzas of some 256 KiB, and clients show less."""

JID_CHARACTERS: Final = 3071
"""What an address can have at most (RFC 7622 §3.1)."""

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 §2.2 has no way to say, not even escaped: a server ends the stream of whoever sends it."""


class MessageParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``params`` of a ``message`` job (DESIGN §4.2)."""

    via: Literal["xmpp"] = "xmpp"
    to: Annotated[str, Meta(min_length=1, max_length=JID_CHARACTERS)]  # a person, or a room
    body: Annotated[str, Meta(min_length=1, max_length=BODY_CHARACTERS)]

    def __post_init__(self) -> None:
        checked_jid(self.to)
        found = _NOT_XML.search(self.body)
        if found is not None:
            raise ValueError(f"body: XML has no character U+{ord(found[0]):04X}, at {found.start()}")


def checked_jid(text: str) -> JID:
    """An address ``local@domain``, with or without a resource; raises ValueError saying what is wrong with it."""
    try:
        jid = JID(text.strip())
    except (InvalidFormat, UnicodeError, ValueError) as error:
        raise ValueError(f"to: {text[:80]!r} is no XMPP address: {error}") from None
    if not jid.user or not jid.host or _NOT_XML.search(text):
        raise ValueError(f"to: {text[:80]!r} is no XMPP address such as ann@example.com or room@conference.example.com")
    return jid


MESSAGE: Final = JobType("message", MessageParams, ("delivered",), "Send an instant message to a person or a room.")
