"""Reads HTTP/1.1 responses to GET: bytes in, heads and pieces of bodies out. No I/O.

Strict where two readers could disagree about where a message ends, lenient where browsers are: what is crawled is the
web as it is. Every line and all heads are bounded, as whoever answers may be hostile.

Source: RFC 9112; RFC 9110 §15 (status codes without a body).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

HEAD_BYTES: Final = 64 * 1024
"""Status lines and headers, those of interim responses too, or trailers; browsers and servers stop between 8 and
256 KiB."""

CHUNK_LINE_BYTES: Final = 4096
"""The line with a chunk's length, which may carry extensions that nobody uses."""

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: .*)?", re.DOTALL)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_SINGLE: Final = frozenset({"content-type", "location", "retry-after"})
"""Headers of which only the first counts; others that stand several times are one list (RFC 9110 §5.3)."""


class BadResponse(ValueError):
    """What came is no HTTP/1.1 response; the message says why."""


class Head(Struct, frozen=True):
    """The status and the headers, their names in lower case."""

    status: int
    headers: dict[str, str]
    length: int | None  # of the body, if it is told; None: chunked, or to the end of the connection
    keeps: bool  # whether the connection may be used again after the body


class End(enum.Enum):
    """The response has ended."""

    END = "end"


END: Final = End.END
Event = Head | bytes | End


class _Part(enum.Enum):
    HEAD = "head"
    LENGTH = "length"
    CHUNK_LINE = "chunk line"
    CHUNK = "chunk"
    CHUNK_END = "chunk end"
    TRAILERS = "trailers"
    TO_CLOSE = "to close"
    ENDED = "ended"


class ResponseReader:
    """Reads one response, then another: call :meth:`next_response` in between."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # what is before it has been read
        self._part = _Part.HEAD
        self._left = 0  # bytes of the body, of the chunk, or read of the trailers
        self._interim = 0  # bytes of interim responses
        self._keeps = False

    @property
    def reusable(self) -> bool:
        """Whether the response has ended and the connection may carry another."""
        return self._part is _Part.ENDED and self._keeps and self._at == len(self._buffer)

    @property
    def begun(self) -> bool:
        """Whether anything of a response has come."""
        return self._part is not _Part.HEAD or self._at < len(self._buffer)

    def next_response(self) -> None:
        """The next request goes out."""
        self._buffer, self._at = b"", 0
        self._part, self._interim = _Part.HEAD, 0

    def receive(self, data: bytes) -> Iterator[Event]:
        """What is to be told after these bytes; the pieces of a body in them come as one. After END the reader wants
        :meth:`next_response`. Raises BadResponse: nothing more can be read then."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0
        pieces: list[bytes] = []
        while True:
            event = _STEPS[self._part](self)
            if isinstance(event, bytes):
                pieces.append(event)
            elif event is not _AGAIN:
                if pieces:
                    yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    pieces = []
                if event is None:
                    return
                yield event  # type: ignore[misc]  # not _AGAIN: mypy does not tell an instance apart
                if event is END:
                    return

    def closed(self) -> bool:
        """The connection has ended: whether the response has, too."""
        return self._part in (_Part.TO_CLOSE, _Part.ENDED)

    # -- steps: each returns an event, _AGAIN, or None for "more bytes" ------------------------------------------------

    def _read_head(self) -> object:
        buffer, at = self._buffer, self._at
        end, skip = buffer.find(b"\r\n\r\n", at), 4
        if end < 0:
            end, skip = buffer.find(b"\n\n", at), 2  # line feeds alone, as very old servers send
        size = (len(buffer) if end < 0 else end) - at
        if self._interim + size > HEAD_BYTES:
            raise BadResponse(f"headers of more than {HEAD_BYTES // 1024} KiB")
        if end < 0:
            if size >= 5 and not buffer.startswith(b"HTTP/", at):
                raise BadResponse(f"it begins with {buffer[at : at + 20]!r}")
            return None
        head, chunked = _parse_head(buffer[at:end])
        self._at = end + skip
        if 100 <= head.status < 200:
            if head.status == 101:
                raise BadResponse("it switches to a protocol that was not asked for")
            self._interim += size
            return _AGAIN  # the real one follows
        self._keeps = head.keeps
        if head.status in (204, 304):
            self._part, self._left = _Part.LENGTH, 0
        elif chunked:
            self._part = _Part.CHUNK_LINE
        elif head.length is not None:
            self._part, self._left = _Part.LENGTH, head.length
        else:
            self._part = _Part.TO_CLOSE
        return head

    def _read_length(self) -> object:
        if self._left:
            return self._piece()
        self._part = _Part.ENDED
        return END

    def _read_chunk_line(self) -> object:
        line = self._line(CHUNK_LINE_BYTES)
        if line is None:
            return None
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise BadResponse("a chunk without a length")
        self._left = int(found[1], 16)
        self._part = _Part.CHUNK if self._left else _Part.TRAILERS
        return _AGAIN

    def _read_chunk(self) -> object:
        if self._left:
            return self._piece()
        self._part = _Part.CHUNK_END
        return _AGAIN

    def _read_chunk_end(self) -> object:
        line = self._line(CHUNK_LINE_BYTES)
        if line is None:
            return None
        if line:
            raise BadResponse("a chunk longer than its length")
        self._part = _Part.CHUNK_LINE
        return _AGAIN

    def _read_trailers(self) -> object:
        line = self._line(HEAD_BYTES)
        if line is None:
            return None
        self._left += len(line)
        if self._left > HEAD_BYTES:
            raise BadResponse("trailers without end")
        if line:
            return _AGAIN
        self._part = _Part.ENDED
        return END

    def _read_to_close(self) -> object:
        self._left = len(self._buffer) - self._at
        return self._piece() if self._left else None

    def _read_nothing(self) -> object:
        return None

    def _piece(self) -> bytes | None:
        """Of the body: what has come of the bytes that are left."""
        piece = self._buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        return piece or None

    def _line(self, limit: int) -> bytes | None:
        end = self._buffer.find(b"\n", self._at, self._at + limit)
        if end < 0:
            if len(self._buffer) - self._at >= limit:
                raise BadResponse("a line without end")
            return None
        line = self._buffer[self._at : end]
        self._at = end + 1
        return line.removesuffix(b"\r")


_AGAIN: Final = object()
_STEPS: Final = {
    _Part.HEAD: ResponseReader._read_head,
    _Part.LENGTH: ResponseReader._read_length,
    _Part.CHUNK_LINE: ResponseReader._read_chunk_line,
    _Part.CHUNK: ResponseReader._read_chunk,
    _Part.CHUNK_END: ResponseReader._read_chunk_end,
    _Part.TRAILERS: ResponseReader._read_trailers,
    _Part.TO_CLOSE: ResponseReader._read_to_close,
    _Part.ENDED: ResponseReader._read_nothing,
}


def _parse_head(head: bytes) -> tuple[Head, bool]:
    """The head, and whether the body is chunked."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    status = _STATUS.fullmatch(lines[0].encode("latin-1"))
    if status is None:
        raise BadResponse(f"its first line is {lines[0][:60]!r}")
    headers: dict[str, str] = {}
    lengths: set[str] = set()
    name = ""
    for line in lines[1:]:
        if line[:1] in (" ", "\t"):  # a folded line (RFC 9112 §5.2)
            if name:
                headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not name:
            name = ""  # nonsense between headers is what browsers skip
            continue
        value = value.strip(" \t")
        if name == "content-length":
            lengths.update(part.strip() for part in value.split(","))
        if name not in headers:
            headers[name] = value
        elif name not in _SINGLE:
            headers[name] += ", " + value
    chunked = False
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise BadResponse(f"transfer coding {headers['transfer-encoding'][:60]!r}")
        chunked = True
    elif len(lengths) > 1 or not all(_LENGTH.fullmatch(text.encode("latin-1")) for text in lengths):
        raise BadResponse(f"its length is {' and '.join(sorted(lengths))[:60]!r}")
    options = headers.get("connection", "").lower()
    keeps = "close" not in options if status[1] == b"1" else "keep-alive" in options
    length = int(lengths.pop()) if lengths and not chunked else None
    return Head(int(status[2]), headers, length, keeps), chunked
