"""Server-sent events as bytes (HTML standard, §9.2.6 "Interpreting an event stream"). Pure.

A client's place is the ``id`` it has seen last, which it sends as ``Last-Event-ID`` when it connects anew. A block with
an ``id`` and nothing else moves that place and shows nothing.
"""

from __future__ import annotations

import re
from typing import Final

CONTENT_TYPE: Final = "text/event-stream"

HEARTBEAT: Final = b":\n\n"
"""A comment: it keeps proxies from forgetting the connection, and shows nothing."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


def block(data: bytes, *, name: str = "", cursor: str = "") -> bytes:
    """One event. ``name``: of those that do not go to ``onmessage``; ``cursor``: the place behind it. Neither may hold
    line ends; those in ``data`` arrive as line feeds, which between the tokens of JSON mean the same."""
    head = f"event: {name}\n" if name else ""
    if cursor:
        head += f"id: {cursor}\n"
    if b"\n" in data or b"\r" in data:
        data = _LINE_END.sub(b"\ndata: ", data)
    return b"%bdata: %b\n\n" % (head.encode(), data)


def place(cursor: str) -> bytes:
    """Moves the client's place, and shows nothing."""
    return b"id: %b\n\n" % cursor.encode()


def retry(milliseconds: int) -> bytes:
    """How long the client is to wait before it connects anew."""
    return b"retry: %d\n\n" % milliseconds
