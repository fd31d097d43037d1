"""Gets one URL by HTTP, within bounds: one hop, no cookies, bounded in time and bytes at every step.

Redirects are not followed here: the caller decides about each hop, and each is dialled through the guard of
``work.network``. Twisted's Agent keeps connections and speaks HTTP/1.1; what it does not bound is bounded here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from msgspec import Struct
from OpenSSL.SSL import Error as TLSError
from twisted.internet import error as dialling
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, ParseError, Request
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from msgd import __version__
from msgd.errors import AddressRefused
from msgd.services.crawler.coding import ACCEPTED
from msgd.services.crawler.urls import host_of

ANSWER_S: Final = 15.0
"""To the end of the headers, with the time to connect."""

BODY_S: Final = 30.0
"""From then to the end of the body: an endless page ends here, if not by its size."""

PAGE_BYTES: Final = 10 * 1024 * 1024
"""A page, before and after decoding. Real ones are under 1 MB; the HTML standard itself has 12, its chapters less."""

DRAINED_BYTES: Final = 64 * 1024
"""Of a body that nobody wants (a redirect's, an error's): read to keep the connection, which costs more than this."""

WIRE_BYTES: Final = 64 * 1024 * 1024
"""All that one answer may send: Agent bounds a header line, not their number. Above any body that is asked for."""

IDLE_S: Final = 10
"""How long an unused connection is kept; common servers close theirs after 5 to 75 seconds."""

USER_AGENT: Final = f"msgd/{__version__} (+https://github.com/msgd/msgd)"

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that say "perhaps later"."""


class FetchError(Exception):
    """Why nothing usable came; the message is for the page's event. ``retryable``: a later try may succeed;
    ``status``: of the answer, 0 if there was none."""

    def __init__(self, message: str, *, retryable: bool, status: int = 0, code: str = "peer") -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status
        self.code = code


class Answer(Struct, frozen=True):
    """What came: the body as it was sent, not yet decoded; empty if it was not wanted."""

    status: int
    content_type: str
    content_encoding: str
    location: str
    robots_tag: str
    retry_after_s: float | None
    chunks: list[bytes]
    size: int  # bytes of the body received
    cut: bool  # whether it ends at the limit
    answered_s: float  # from the request to the end of the headers
    took_s: float  # to the end of the body


class Fetcher:
    """An HTTP client shared by all crawls of a process."""

    def __init__(
        self,
        reactor: Any,
        endpoints: Any,
        *,
        contact: str = "",
        connections: int = 16,
        answer_s: float = ANSWER_S,
        body_s: float = BODY_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``endpoints``: an IAgentEndpointFactory, with the guard in it; ``contact``: an address or URL that tells
        site owners whom to ask, in the User-Agent; ``connections``: kept open to each host."""
        self._reactor = reactor
        self._pool = _Pool(reactor, connections)
        self._agent = Agent.usingEndpointFactory(reactor, endpoints, self._pool)
        self._answer_s = answer_s
        self._body_s = body_s
        self._now = now
        self._headers = Headers(
            {
                b"User-Agent": [(f"{USER_AGENT} {contact}" if contact else USER_AGENT).encode("ascii", "replace")],
                b"Accept": [b"text/html,application/xhtml+xml,text/*;q=0.9,application/xml;q=0.8,*/*;q=0.5"],
                b"Accept-Encoding": [ACCEPTED],
            }
        )

    async def stop(self) -> None:
        """Close the connections that are kept."""
        await self._pool.close()

    async def fetch(
        self,
        url: str,
        *,
        limit: int = PAGE_BYTES,
        cut: bool = False,
        wants: Callable[[str], bool] | None = None,
    ) -> Answer:
        """One GET. ``limit``: bytes of the body; ``cut``: what is longer ends there, else it is an error; ``wants``:
        tells by its Content-Type whether a body is to be read. Bodies of other statuses than 2xx are not read.
        Raises FetchError.
        """
        began = self._reactor.seconds()
        try:
            request: Deferred[Any] = self._agent.request(b"GET", url.encode("ascii"), self._headers)
            response = await request.addTimeout(self._answer_s, self._reactor, self._late)
        except FetchError:
            raise
        except Exception as error:
            raise _explained(error, url) from None
        answered = self._reactor.seconds()
        headers = response.headers
        content_type = _header(headers, b"Content-Type")
        status: int = response.code
        problem: FetchError | None = None
        wanted = 200 <= status < 300
        if wanted and wants is not None and not wants(content_type):
            problem = FetchError(f"{content_type[:80]!r} is not searched", retryable=False, status=status)
        elif wanted and not cut and isinstance(response.length, int) and response.length > limit:
            problem = _too_large(limit, status)
        body = _Body(limit if wanted and problem is None else DRAINED_BYTES)
        response.deliverBody(body)
        try:
            whole = await body.ended.addTimeout(self._body_s, self._reactor, self._endless)
        except FetchError as error:
            problem = problem or FetchError(str(error), retryable=error.retryable, status=status)
        else:
            if wanted and problem is None and not whole:
                problem = FetchError(f"broke off after {body.size} bytes", retryable=True, status=status)
            elif wanted and problem is None and body.over and not cut:
                problem = _too_large(limit, status)
        if problem is not None and wanted:
            raise problem
        return Answer(
            status=status,
            content_type=content_type,
            content_encoding=_list_header(headers, b"Content-Encoding"),
            location=_header(headers, b"Location"),
            robots_tag=_list_header(headers, b"X-Robots-Tag"),
            retry_after_s=self._seconds(_header(headers, b"Retry-After")),
            chunks=body.chunks if wanted else [],
            size=body.size,
            cut=body.over,
            answered_s=answered - began,
            took_s=self._reactor.seconds() - began,
        )

    def _late(self, value: Any, _timeout: float) -> Any:
        return Failure(FetchError(f"no answer within {self._answer_s:g} seconds", retryable=True))

    def _endless(self, value: Any, _timeout: float) -> Any:
        return Failure(FetchError(f"not ended within {self._body_s:g} seconds", retryable=False))

    def _seconds(self, text: str) -> float | None:
        """A Retry-After (RFC 9110 §10.2.3): seconds, or a date; None for neither."""
        if not text:
            return None
        if re.fullmatch(r"[0-9]{1,9}", text):
            return float(text)
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, (when - self._now()).total_seconds())


class _Body(Protocol):
    """Collects a body up to a limit, then hangs up. ``ended`` fires with whether it ended as it should."""

    def __init__(self, limit: int) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.over = False
        self._limit = limit
        self.ended: Deferred[bool] = Deferred(self._hang_up)

    def dataReceived(self, data: bytes) -> None:
        if self.over:
            return
        self.size += len(data)
        if self.size > self._limit:
            self.over = True
            data = data[: len(data) - (self.size - self._limit)]
            self.size = self._limit
            self.chunks.append(data)
            self._hang_up(None)
            self.ended.callback(True)
        else:
            self.chunks.append(data)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008 (Twisted's default)
        if not self.ended.called:
            # Without a length the end of the connection ends the body, as HTTP/1.0 has it (PotentialDataLoss).
            self.ended.callback(reason.check(ResponseDone, PotentialDataLoss) is not None)

    def _hang_up(self, _: object) -> None:
        if self.transport is not None:
            self.transport.stopProducing()


class _Connection(HTTP11ClientProtocol):
    """Agent's connection, with a bound on what one answer may send."""

    def __init__(self, quiescent: Callable[[Any], None]) -> None:
        super().__init__(quiescent)
        self._received = 0

    def request(self, request: Request) -> Deferred[Any]:
        self._received = 0
        answer: Deferred[Any] = super().request(request)
        return answer

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= WIRE_BYTES:
            super().dataReceived(data)
        elif self.transport is not None:
            self.transport.abortConnection()


class _ConnectionFactory(Factory):
    """Makes the connections of the pool."""

    noisy = False

    def __init__(self, quiescent: Callable[[Any], None], _metadata: str) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: object) -> _Connection:
        return _Connection(self._quiescent)


class _Pool(HTTPConnectionPool):
    """A pool of bounded connections; each request takes one for itself."""

    _factory = _ConnectionFactory  # type: ignore[assignment]
    cachedConnectionTimeout = IDLE_S

    def __init__(self, reactor: Any, connections: int) -> None:
        super().__init__(reactor)
        self.maxPersistentPerHost = connections

    def close(self) -> Deferred[None]:
        closed: Deferred[None] = self.closeCachedConnections()
        return closed


def _header(headers: Headers, name: bytes) -> str:
    values = headers.getRawHeaders(name)
    return values[0].decode("latin-1").strip() if values else ""


def _list_header(headers: Headers, name: bytes) -> str:
    """A header that may stand several times, meaning one list (RFC 9110 §5.3)."""
    return b", ".join(headers.getRawHeaders(name) or ()).decode("latin-1")


def _too_large(limit: int, status: int) -> FetchError:
    return FetchError(f"larger than {limit // (1024 * 1024)} MiB", retryable=False, status=status)


def _explained(error: BaseException, url: str) -> FetchError:
    """Why no answer came, in words for whoever reads the page's event."""
    while isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[0].value
    if isinstance(error, CancelledError):
        raise error
    if isinstance(error, AddressRefused):
        return FetchError(error.message, retryable=False, code=error.code)
    if isinstance(error, dialling.DNSLookupError):
        return FetchError(f"the host of {host_of(url)} was not found", retryable=False)
    if isinstance(error, dialling.ConnectionRefusedError):
        return FetchError("connection refused", retryable=True)
    if isinstance(error, dialling.TimeoutError | dialling.ConnectingCancelledError):
        return FetchError("no connection within the time allowed", retryable=True)
    if isinstance(error, dialling.ConnectError):
        return FetchError(f"no connection: {error}", retryable=True)
    if isinstance(error, TLSError) or type(error).__module__.startswith(("service_identity", "OpenSSL")):
        return FetchError(f"TLS: {_tls_reason(error)}", retryable=False)
    if isinstance(error, ParseError | ValueError):
        return FetchError(f"not an HTTP answer: {error!s:.100}", retryable=False)
    return FetchError(f"connection lost before an answer ({type(error).__name__})", retryable=True)


def _tls_reason(error: BaseException) -> str:
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][0][-1])  # (library, function, reason) of OpenSSL's first error
    return str(error) or type(error).__name__
