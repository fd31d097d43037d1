"""Gets one URL by HTTP, within bounds: one hop, no cookies, bounded in time and bytes at every step.

Redirects are not followed here: the caller decides about each hop, and each is dialled through the guard of
``work.network``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from msgspec import Struct
from OpenSSL.SSL import Error as TLSError
from service_identity import CertificateError, VerificationError
from twisted.internet import error as dialling
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from msgd import __version__
from msgd.clock import Clock, DelayedCall
from msgd.errors import AddressRefused
from msgd.services.crawler.coding import ACCEPTED
from msgd.services.crawler.connections import Connection, Connections
from msgd.services.crawler.http1 import BadResponse, Head
from msgd.services.crawler.urls import host_of

ANSWER_S: Final = 15.0
"""To the end of the headers, with the time to connect."""

BODY_S: Final = 30.0
"""From then to the end of the body: an endless page ends here, if not by its size."""

STOOD_STILL_S: Final = 1.0
"""A timer that is so late tells of us, not of the server: the process was stopped, or the machine asleep. What came
meanwhile waits in the sockets, which are read after the timers."""

PAGE_BYTES: Final = 10 * 1024 * 1024
"""A page, before and after decoding. Real ones are under 1 MB; the HTML standard itself has 12, its chapters less."""

DRAINED_BYTES: Final = 64 * 1024
"""Of a body that nobody wants (a redirect's, an error's): read to keep the connection, which costs more than this."""

USER_AGENT: Final = f"msgd/{__version__}"
ACCEPT: Final = "text/html,application/xhtml+xml,text/*;q=0.9,application/xml;q=0.8,*/*;q=0.5"

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that say "perhaps later"."""

_URL: Final = re.compile(r"https?://[!-~]+")
"""Nothing in it can end a request line."""


class FetchError(Exception):
    """Why nothing usable came; the message is for the page's event. ``retryable``: a later try may succeed;
    ``unreached``: no connection came about; ``status``: of the answer, 0 if there was none."""

    def __init__(
        self, message: str, *, retryable: bool, unreached: bool = False, status: int = 0, code: str = "peer"
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.unreached = unreached
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


class Wish(Struct, frozen=True):
    """What is wanted of an answer."""

    limit: int  # bytes of the body
    cut: bool  # what is longer ends there; else it is an error
    wants: Callable[[str], bool] | None  # tells by its Content-Type whether a body is to be read


class Fetcher:
    """An HTTP client shared by all crawls of a process."""

    def __init__(
        self,
        clock: Clock,
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
        self.clock = clock
        self.connections = Connections(endpoints, clock, kept=connections)
        self.answer_s = answer_s
        self.body_s = body_s
        self._now = now
        agent = f"{USER_AGENT} (+{contact})" if contact else USER_AGENT
        headers = f"User-Agent: {agent}\r\nAccept: {ACCEPT}\r\nAccept-Encoding: {ACCEPTED}\r\n\r\n"
        self._headers = headers.encode("ascii", "replace")

    async def stop(self) -> None:
        """Hang up all connections."""
        self.connections.stop()

    def fetch(
        self,
        url: str,
        *,
        limit: int = PAGE_BYTES,
        cut: bool = False,
        wants: Callable[[str], bool] | None = None,
    ) -> Deferred[Answer]:
        """One GET. ``limit``: bytes of the body; ``cut``: what is longer ends there, else it is an error; ``wants``:
        tells by its Content-Type whether a body is to be read. Bodies of other statuses than 2xx are not read.
        Fails with FetchError; cancelled, it hangs up.
        """
        host = host_of(url)
        exchange = _Fetching(self, host, Wish(limit, cut, wants))
        if not _URL.fullmatch(url):
            exchange.fail(FetchError(f"{url[:200]!r} is no URL that can be asked for", retryable=False))
        else:
            target = url[len(host) :].encode("ascii") or b"/"
            name = host.partition("//")[2].encode("ascii")
            exchange.ask(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b" % (target, name, self._headers))
        return exchange.done

    def seconds(self, text: str) -> float | None:
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


class _Fetching:
    """One request on its way: an :class:`~msgd.services.crawler.connections.Exchange`."""

    def __init__(self, fetcher: Fetcher, host: str, wish: Wish) -> None:
        self.done: Deferred[Answer] = Deferred(self._cancelled)
        self._fetcher = fetcher
        self._host = host
        self._wish = wish
        self._request = b""
        self._connecting: Deferred[Connection] | None = None
        self._connection: Connection | None = None
        self._reused = False
        self._timer: DelayedCall | None = None
        self._period_s = self._due_s = 0.0
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._limit = DRAINED_BYTES
        self._wanted = False
        self._began = self._answered = fetcher.clock.seconds()

    def ask(self, request: bytes) -> None:
        """Send it, on a connection that is idle or a new one."""
        self._request = request
        self._wait(self._fetcher.answer_s)
        kept = self._fetcher.connections.take(self._host)
        if kept is not None:
            self._reused = True
            self._send(kept)
        else:
            self._connect()

    def _connect(self) -> None:
        self._reused = False
        try:
            self._connecting = self._fetcher.connections.connect(self._host)
        except (ValueError, UnicodeError) as error:  # a name that no host can have
            self.fail(FetchError(f"no connection: {error}", retryable=False))
            return
        self._connecting.addCallbacks(self._send, self._unconnected)

    def _send(self, connection: Connection) -> None:
        self._connecting = None
        self._connection = connection
        connection.ask(self._request, self)

    def _unconnected(self, failure: Failure) -> None:
        # Once hung up the reason says nothing: a lookup that is cancelled claims that there is no such host.
        if self._connecting is not None:
            self._connecting = None
            self.fail(_explained(failure.value))

    # -- what the connection tells -------------------------------------------------------------------------------------

    def head(self, head: Head) -> None:
        self._head = head
        self._answered = self._fetcher.clock.seconds()
        self._wanted = 200 <= head.status < 300
        if self._wanted:
            wish = self._wish
            content_type = head.headers.get("content-type", "")
            if wish.wants is not None and not wish.wants(content_type):
                self._give_up(f"{content_type[:80]!r} is not searched")
                return
            if not wish.cut and head.length is not None and head.length > wish.limit:
                self._give_up(_too_large(wish.limit))
                return
            self._limit = wish.limit
        self._wait(self._fetcher.body_s)

    def piece(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._chunks.append(data)
        elif self._wanted and not self._wish.cut:
            self._give_up(_too_large(self._limit))
        else:
            self._chunks.append(data[: len(data) - (self._size - self._limit)])
            self._size = self._limit
            self._hang_up()
            self._finish(cut=True)

    def ended(self) -> None:
        self._connection = None
        self._finish(cut=False)

    def lost(self, reason: BaseException, *, begun: bool) -> None:
        self._connection = None
        if self._head is not None and not self._wanted:
            self._finish(cut=True)
        elif self._head is not None:
            self._give_up(f"broke off after {self._size} bytes", retryable=True)
        elif self._reused and not begun and not isinstance(reason, BadResponse):
            self._connect()  # the server had closed it meanwhile, as it may: the request was not seen
        else:
            self.fail(_explained(reason))

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _finish(self, *, cut: bool) -> None:
        head = self._head
        assert head is not None
        headers = head.headers.get
        answer = Answer(
            status=head.status,
            content_type=headers("content-type", ""),
            content_encoding=headers("content-encoding", ""),
            location=headers("location", ""),
            robots_tag=headers("x-robots-tag", ""),
            retry_after_s=self._fetcher.seconds(headers("retry-after", "")),
            chunks=self._chunks if self._wanted else [],
            size=self._size,
            cut=cut,
            answered_s=self._answered - self._began,
            took_s=self._fetcher.clock.seconds() - self._began,
        )
        self._stop_timer()
        self.done.callback(answer)

    def fail(self, error: FetchError) -> None:
        """There will be no answer."""
        self._stop_timer()
        self._hang_up()
        self.done.errback(Failure(error))

    def _give_up(self, message: str, *, retryable: bool = False) -> None:
        self.fail(FetchError(message, retryable=retryable, status=self._head.status if self._head else 0))

    def _wait(self, seconds: float) -> None:
        """Give up on what has not come in so many seconds."""
        self._period_s = seconds
        self._due_s = self._fetcher.clock.seconds() + seconds
        if self._timer is not None and self._timer.active():
            self._timer.reset(seconds)
        else:
            self._timer = self._fetcher.clock.callLater(seconds, self._late)

    def _late(self) -> None:
        if self._fetcher.clock.seconds() - self._due_s > STOOD_STILL_S:
            self._wait(self._period_s)
        elif self._head is None:
            message = f"no answer within {self._fetcher.answer_s:g} seconds"
            self.fail(FetchError(message, retryable=True))
        elif self._wanted:
            self._give_up(f"not ended within {self._fetcher.body_s:g} seconds")
        else:
            self._hang_up()
            self._finish(cut=True)

    def _cancelled(self, _: object) -> None:
        self._stop_timer()
        self._hang_up()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _hang_up(self) -> None:
        connecting, self._connecting = self._connecting, None
        connection, self._connection = self._connection, None
        if connecting is not None:
            connecting.cancel()
        if connection is not None:
            connection.hang_up()


def _too_large(limit: int) -> str:
    return f"larger than {limit // (1024 * 1024)} MiB"


def _explained(error: BaseException | None) -> FetchError:
    """Why no answer came, in words for whoever reads the page's event."""
    match error:
        case AddressRefused():
            return FetchError(error.message, retryable=False, unreached=True, code=error.code)
        case BadResponse():
            return FetchError(f"not an HTTP answer: {error}", retryable=False)
        case dialling.DNSLookupError():
            return FetchError("its host was not found", retryable=False, unreached=True)
        case dialling.ConnectionRefusedError():
            return FetchError("connection refused", retryable=True, unreached=True)
        case dialling.TimeoutError():
            return FetchError("no connection within the time allowed", retryable=True, unreached=True)
        case dialling.ConnectError():
            return FetchError(f"no connection: {error}", retryable=True, unreached=True)
        case TLSError() | VerificationError() | CertificateError():
            return FetchError(f"TLS: {_tls_reason(error)}", retryable=False)
        case ValueError():
            return FetchError(f"no connection: {error!s:.100}", retryable=False)
    return FetchError(f"connection lost before an answer ({type(error).__name__})", retryable=True)


def _tls_reason(error: BaseException | None) -> str:
    """What OpenSSL's or service_identity's error is about."""
    details = error.args[0] if error is not None and error.args else None
    if isinstance(error, TLSError) and isinstance(details, list) and details:
        return str(details[0][-1])  # (library, function, reason)
    if isinstance(error, VerificationError):
        return "the certificate is for another host"
    return str(error) or type(error).__name__
