"""One GET of a feed within bounds: in time, in bytes, in redirects, each hop through the guard of ``work.network``."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urljoin

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from msgd import __version__
from msgd.errors import AddressRefused, PeerError
from msgd.services.messenger.counting import CountedEndpoints, retry_after_s, words_of
from msgd.services.messenger.feeds.parsing import DOCUMENT_BYTES
from msgd.services.messenger.webhooks.params import checked_url

FETCH_S: Final = 60.0
"""For all hops together, to the last byte."""

HEADER_BYTES: Final = 64 * 1024
"""Of an answer's head, as most servers and clients bound it."""

HOPS: Final = 5
VALIDATOR_BYTES: Final = 1000
"""Of an ETag or a Last-Modified that is kept and sent back; a longer one is done without."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
FOR_GOOD: Final = frozenset({301, 308})

ACCEPT: Final = (
    "application/atom+xml, application/rss+xml, application/rdf+xml, application/feed+json, application/xml;q=0.9,"
    " application/json;q=0.8, */*;q=0.5"
)


class Fetched(Struct, frozen=True, kw_only=True):
    """What was answered in the end. ``body`` as it came, packed as ``coding`` says."""

    status: int
    url: str  # that answered
    moved: str  # where the URL asked for has moved to for good; itself, if it has not
    etag: str = ""
    modified: str = ""
    retry_after_s: float | None = None
    charset: str = ""
    coding: str = ""
    body: bytes = b""


class Fetcher:
    """Fetches feeds, each over a connection of its own: minutes lie between two requests to a host."""

    def __init__(self, reactor: Any, endpoints: Any, *, fetch_s: float = FETCH_S) -> None:
        """``endpoints``: an IAgentEndpointFactory, with the guard in it."""
        self._reactor = reactor
        self._fetch_s = fetch_s
        pool = HTTPConnectionPool(reactor, persistent=False)
        counted = CountedEndpoints(endpoints, HEADER_BYTES + DOCUMENT_BYTES)
        self._agent = Agent.usingEndpointFactory(reactor, counted, pool)

    async def fetch(self, url: str, *, etag: str = "", modified: str = "") -> Fetched:
        """The answer to a GET of ``url``. Raises AddressRefused; PeerError where none came, or one over the limits."""
        fetching = Deferred.fromCoroutine(self._follow(url, etag, modified))
        try:
            return await fetching.addTimeout(self._fetch_s, self._reactor)
        except TimedOut:
            raise PeerError(f"no whole answer within {self._fetch_s:g} s", where=url) from None

    async def _follow(self, url: str, etag: str, modified: str) -> Fetched:
        moved, for_good = url, True
        for _ in range(HOPS + 1):
            fetched, location = await self._get(url, etag, modified)
            if fetched.status not in REDIRECTS or not location:
                return Fetched(
                    **{name: getattr(fetched, name) for name in Fetched.__struct_fields__} | {"moved": moved}
                )
            try:
                url = checked_url(urljoin(url, location))
            except ValueError as error:
                raise PeerError(f"it leads to what is no address: {error}", where=url) from None
            for_good = for_good and fetched.status in FOR_GOOD
            moved = url if for_good else moved
        raise PeerError(f"it leads on more than {HOPS} times", where=url)

    async def _get(self, url: str, etag: str, modified: str) -> tuple[Fetched, str]:
        """One hop: its answer, and where it leads."""
        asked = {"user-agent": f"msgd/{__version__}", "accept": ACCEPT, "accept-encoding": "gzip"}
        if etag:
            asked["if-none-match"] = etag
        if modified:
            asked["if-modified-since"] = modified
        headers = Headers({name: [value] for name, value in asked.items()})
        try:
            got = await self._agent.request(b"GET", url.encode("ascii"), headers, None)
            body = b""
            if got.code == 200:
                body = await _read(got)
            else:
                got.deliverBody(_Unwanted())
        except (AddressRefused, CancelledError, PeerError):
            raise
        except DNSLookupError as error:
            raise PeerError(f"the name cannot be resolved: {error}", where=url) from None
        except ConnectingCancelledError:
            raise CancelledError from None
        except Exception as error:  # whatever connecting, TLS and parsing raise
            raise PeerError(words_of(error), where=url) from None

        def header(name: bytes) -> str:
            values = got.headers.getRawHeaders(name) or [b""]
            return str(values[0].decode("latin-1").strip())

        fetched = Fetched(
            status=got.code,
            url=url,
            moved=url,
            etag=_kept(header(b"etag")),
            modified=_kept(header(b"last-modified")),
            retry_after_s=retry_after_s(header(b"retry-after"), self._reactor.seconds()),
            charset=_charset(header(b"content-type")),
            coding=header(b"content-encoding").lower(),
            body=body,
        )
        return fetched, header(b"location")


def _read(response: Any) -> Deferred[bytes]:
    """The whole body. Cancelled, it hangs up."""
    reading = _Reading()
    response.deliverBody(reading)
    return reading.whole


class _Reading(Protocol):
    """A body on its way."""

    transport: Any

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._hang_up())
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > DOCUMENT_BYTES:
            self._hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if self._size > DOCUMENT_BYTES:
            self.whole.errback(PeerError(f"it has more than {DOCUMENT_BYTES} bytes"))
        elif reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(PeerError("the connection was lost in the middle of the answer"))

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class _Unwanted(Protocol):
    """A body that nobody reads."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.loseConnection()


def _kept(value: str) -> str:
    return value if len(value) <= VALIDATOR_BYTES and value.isprintable() else ""


def _charset(content_type: str) -> str:
    """The ``charset`` of a Content-Type."""
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'")[:40]
    return ""
