"""The words of IMAP that Twisted has no use or no bounds for. Pure.

Sources: RFC 3501 §4.3 (quoted strings), §5.1.3 (names of folders), §7.4.2 (FETCH).
"""

from __future__ import annotations

import re
from typing import Any

import twisted.mail.imap4  # noqa: F401  # registers the encoding imap4-utf-7

from msgd.services.mailer.bounces.place import FolderTrouble


def quoted(text: str) -> bytes:
    """A quoted string. Raises FolderTrouble for what needs another form."""
    if not text.isascii() or any(one in text for one in "\r\n\0"):
        raise FolderTrouble("user, password or folder have characters that this server cannot be told")
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def mailbox(name: str) -> bytes:
    """A folder's name as it is written in a command."""
    return quoted(name.encode("imap4-utf-7").decode("ascii"))


def content_of(line: Any, uid: int) -> bytes | None:
    """The section of this mail that is in a FETCH answer: ``[b"5", b"FETCH", [b"UID", b"7", b"BODY", […], …]]``."""
    if len(line) != 3 or not isinstance(line[2], list):
        return None
    items = iter(line[2])
    whose, content = None, None
    for key in items:
        value = next(items, None)
        if key == b"UID":
            whose = value
        elif key == b"BODY" and isinstance(value, list):
            content = next(items, None)
            if isinstance(content, bytes) and re.fullmatch(rb"<\d+>", content):
                content = next(items, None)
            content = content or b""  # NIL
    return content if whose == b"%d" % uid and isinstance(content, bytes) else None
