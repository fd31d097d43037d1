"""One request: its bounded body, and what an endpoint sees of it."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from msgd.errors import InvalidInput, MsgdError
from msgd.messages import json
from msgd.notifier.interface import Principal
from msgd.notifier.limits import SWALLOW_BYTES
from msgd.notifier.problems import UnsupportedMedia
from msgd.notifier.router import Found

T = TypeVar("T")

COOKIE: Final = "msgd"
"""The name of the cookie that holds the dashboard's token."""

QUERY_FIELDS: Final = 50
"""Parameters in one query: more is not a question."""


class BoundedRequest(Request):
    """A request whose body stops being kept at its limit.

    Twisted would store a body of any length, on disk from 100 kB on. What is over the limit is swallowed for a while,
    so that the client gets to read the 413 instead of a reset connection.
    """

    channel: Any
    content: Any

    def gotLength(self, length: int | None) -> None:
        """The headers are there: prepare for the body."""
        super().gotLength(0)  # a buffer in memory, whatever the length
        self.limit = self.channel.site.body_limit(self.channel._command.decode("latin-1"), self.channel._path)
        self.received = 0

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, or swallow it."""
        self.received += len(data)
        if self.received <= self.limit:
            super().handleContentChunk(data)
        elif self.received > self.limit + SWALLOW_BYTES:
            self.channel.transport.abortConnection()

    @property
    def too_large(self) -> bool:
        return bool(self.received > self.limit)


class RequestCall:
    """One request; conforms to :class:`~msgd.notifier.interface.Call`."""

    def __init__(self, request: BoundedRequest, found: Found, principal: Principal | None, refusal: MsgdError) -> None:
        self.request = request
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
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise UnsupportedMedia(f"the body must be application/json, not {kind[:80]}", where="content-type")
        return json.decode(self.body, form)

    def gone(self) -> Deferred[None]:
        return self.request.notifyFinish().addErrback(lambda _: None)


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
