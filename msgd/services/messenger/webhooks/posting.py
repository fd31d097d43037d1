"""One POST within bounds: bounded in time and bytes, its redirects not followed, through the guard of ``work.network``.

An answer is counted, headers and all (``messenger.counting``), and cut off where it is too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers

from msgd import __version__
from msgd.clock import Clock
from msgd.errors import AddressRefused, PeerError
from msgd.services.messenger.counting import CountedEndpoints, is_cancel, words_of

ANSWER_S: Final = 15.0
"""To the end of the answer, with the time to connect: the specification advises 15 to 30 s."""

ANSWER_BYTES: Final = 64 * 1024
"""Of an answer, headers and body: only its status and a few headers matter. What is more is not read."""

DRAIN_S: Final = 2.0
"""For the body, which nobody reads, to end, so that its connection can be used again."""

IDLE_S: Final = 10
"""How long an unused connection is kept; common servers close theirs after 5 to 75 seconds."""

KEPT: Final = 4
"""Idle connections of one host."""

USER_AGENT: Final = f"msgd/{__version__}"


class Response(Struct, frozen=True):
    """What was answered."""

    status: int
    retry_after: str  # the header, as it came


class Poster:
    """Sends requests, over connections that are kept for the next one."""

    def __init__(self, reactor: Any, endpoints: Any, *, answer_s: float = ANSWER_S) -> None:
        """``endpoints``: an IAgentEndpointFactory, with the guard in it; ``answer_s``: seconds that a try may take."""
        self._reactor = reactor
        self._answer_s = answer_s
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = KEPT
        self._pool.cachedConnectionTimeout = IDLE_S
        self._pool.retryAutomatically = False
        self._agent = Agent.usingEndpointFactory(reactor, CountedEndpoints(endpoints, ANSWER_BYTES), self._pool)

    async def stop(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """The answer. Raises AddressRefused; PeerError where none came."""
        asked = {"content-type": "application/json", "user-agent": USER_AGENT, **headers}
        answering = Deferred.fromCoroutine(self._post(url, Headers({k: [v] for k, v in asked.items()}), body))
        try:
            return await answering.addTimeout(self._answer_s, self._reactor)
        except TimedOut:
            raise PeerError(f"no answer within {self._answer_s:g} s", where=url) from None

    async def _post(self, url: str, headers: Headers, body: bytes) -> Response:
        try:
            got = await self._agent.request(b"POST", url.encode("ascii"), headers, FileBodyProducer(BytesIO(body)))
        except (AddressRefused, CancelledError):
            raise
        except DNSLookupError as error:
            raise PeerError(f"the name cannot be resolved: {error}", where=url) from None
        except Exception as error:  # whatever connecting, TLS and parsing raise
            if is_cancel(error):
                raise CancelledError from None
            raise PeerError(words_of(error), where=url) from None
        wait = got.headers.getRawHeaders(b"retry-after") or [b""]
        got.deliverBody(_Unread(self._reactor))
        return Response(got.code, wait[0].decode("latin-1"))


class _Unread(Protocol):
    """A body that nobody reads. If it ends soon its connection is kept, which costs more than the bytes."""

    transport: Any

    def __init__(self, clock: Clock) -> None:
        self._timer = clock.callLater(DRAIN_S, self._late)

    def _late(self) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer.active():
            self._timer.cancel()
