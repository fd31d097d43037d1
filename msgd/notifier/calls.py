"""One request: its bounded body, and what an endpoint sees of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from msgd.errors import InvalidInput, MsgdError, TooLarge
from msgd.messages import json
from msgd.notifier.incoming import IncomingBody
from msgd.notifier.interface import Asked, Principal
from msgd.notifier.limits import SWALLOW_BYTES
from msgd.notifier.problems import UnsupportedMedia
from msgd.notifier.router import Found

T = TypeVar("T")

COOKIE: Final = "msgd"
"""The name of the cookie that holds the dashboard's token."""

QUERY_FIELDS: Final = 50
"""Parameters in one query: more is not a question."""


class Expected(Struct, frozen=True):
    """What a request may bring."""

    most: int  # bytes of its body
    streamed: bool = False  # its endpoint takes the body as it comes


class BoundedRequest(Request):
    """A request whose body stops being kept at its limit.

    Twisted would store a body of any length, on disk from 100 kB on. What is over the limit is swallowed for a while,
    so that the client gets to read the 413 instead of a reset connection.
    """

    channel: Any
    content: Any

    def gotLength(self, length: int | None) -> None:
        """The headers are there: prepare for the body. Where it is taken as a stream, answering begins here."""
        super().gotLength(0)  # a buffer in memory, whatever the length
        channel = self.channel
        expected: Expected = channel.site.expected(channel._command.decode("latin-1"), channel._path)
        self.limit = expected.most
        self.received = 0
        self.incoming: IncomingBody | None = None
        if expected.streamed:
            self.incoming = IncomingBody(channel.hold, channel.go_on)
            self.declared = length
            super().requestReceived(channel._command, channel._path, channel._version)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of the body has come."""
        if self.incoming is not None:
            self.incoming.end()
        else:
            super().requestReceived(command, path, version)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, hand it on, or swallow it."""
        self.received += len(data)
        if self.incoming is not None:
            if self.received > self.limit:
                self.incoming.fail(self.over())
            if not self.finished:
                self.incoming.received(data)
        elif self.received <= self.limit:
            super().handleContentChunk(data)
        elif self.received > self.limit + SWALLOW_BYTES:
            self.channel.transport.abortConnection()

    @property
    def too_large(self) -> bool:
        """Whether the body is over its limit, as far as that is known."""
        return bool(self.received > self.limit or (self.incoming is not None and (self.declared or 0) > self.limit))

    @property
    def has_body(self) -> bool:
        """Whether there is a body, or one is to come."""
        return bool(self.received or (self.incoming is not None and self.declared != 0))

    def over(self) -> TooLarge:
        return TooLarge(f"the body is over the limit of {self.limit} bytes", where="body")


class RequestCall:
    """One request; conforms to :class:`~msgd.notifier.interface.Call`."""

    def __init__(
        self, request: BoundedRequest, found: Found, asked: Asked, principal: Principal | None, refusal: MsgdError
    ) -> None:
        self.request = request
        self.asked = asked
        self.words = found.words
        self._principal = principal
        self._refusal = refusal
        self._query: dict[str, list[str]] | None = None

    @property
    def method(self) -> str:
        method: bytes = self.request.method
        return method.decode("latin-1")

    @property
    def principal(self) -> Principal:
        if self._principal is None:
            raise self._refusal
        return self._principal

    @property
    def body(self) -> bytes:
        self.request.content.seek(0)
        body: bytes = self.request.content.read()
        return body

    def header(self, name: str) -> str:
        return header(self.request, name)

    def text(self, name: str, default: str = "") -> str:
        if self._query is None:
            _, _, query = self.request.uri.partition(b"?")
            try:
                self._query = parse_qs(
                    query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS
                )
            except (ValueError, UnicodeDecodeError):
                raise InvalidInput("the query cannot be read: not UTF-8, or too many fields", where="query") from None
        values = self._query.get(name, [default])
        if len(values) > 1:
            raise InvalidInput(f"the parameter {name} is given {len(values)} times", where=name)
        if "\0" in values[0]:  # no name holds it, and not every database can be asked for it
            raise InvalidInput(f"the parameter {name} holds the character U+0000", where=name)
        return values[0]

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        text = self.text(name)
        if not text:
            return default
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not number >= least:  # also where it is not a number
            raise InvalidInput(f"{name}={text[:40]!r} must be a number from {least:g}", where=name)
        return min(number, most)

    def json(self, form: type[T]) -> T:
        kind = self.header("content-type").partition(";")[0].strip().lower()
        if kind and not is_json(kind):
            raise UnsupportedMedia(f"the body must be application/json, not {kind[:80]}", where="content-type")
        return json.decode(self.body, form)

    def chunks(self) -> AsyncGenerator[bytes, None]:
        assert self.request.incoming is not None, "the body of this route is no stream"
        return self.request.incoming.chunks()

    def gone(self) -> Deferred[None]:
        return self.request.notifyFinish().addErrback(lambda _: None)


def is_json(kind: str) -> bool:
    """Whether a media type, in lower case and without parameters, is JSON (RFC 6839 §3.1)."""
    return kind == "application/json" or kind.endswith("+json")


def headers(request: BoundedRequest, name: str) -> str:
    """All values of a request header, joined with commas (RFC 9110 §5.3)."""
    values = request.requestHeaders.getRawHeaders(name.encode(), [])
    return ",".join(value.decode("utf-8", "replace") for value in values)


def peer_of(request: BoundedRequest) -> str:
    """The address at the other end of the connection, "" if it is a Unix socket."""
    address: str = getattr(request.channel.transport.getPeer(), "host", "")
    return address


def header(request: BoundedRequest, name: str) -> str:
    """A request header's first value, or ""; bytes that are not UTF-8, which no header of ours has, are replaced."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return values[0].decode("utf-8", "replace") if values else ""


def token_of(request: BoundedRequest) -> tuple[str, bool]:
    """The token that a request carries, and whether it came by itself, in the cookie; "" if there is none."""
    return token_in(header(request, "authorization"), header(request, "cookie"))


def token_in(authorization: str, cookies: str) -> tuple[str, bool]:
    """The token in these headers' values; ``Authorization`` wins over the cookie."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), False
    for cookie in cookies.split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == COOKIE and value:
            return value, True
    return "", False
