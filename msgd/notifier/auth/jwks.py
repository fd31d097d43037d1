"""The keys that an identity provider publishes (JWKS, RFC 7517), kept fresh in the background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from msgd.client.body import pieces
from msgd.clock import sleep
from msgd.errors import Unavailable
from msgd.notifier.auth.freshness import Freshness, freshness
from msgd.notifier.auth.keys import PUBLIC, BadKey, Found, Key, read_jwks
from msgd.notifier.tasks import Tasks

_log = Logger()

FETCH_S: Final = 5.0
"""For one answer, from connecting to its last byte: somebody may be waiting for it."""

JWKS_BYTES: Final = 256 * 1024
"""A provider's keys, with certificates; more is no JWKS."""

UNKNOWN_S: Final = 10.0
"""Between two fetches for the sake of tokens with an unknown ``kid``: anybody can make up such tokens, and a provider
publishes a key before it signs with it."""

RETRY_S: Final = 15.0
"""After a failed fetch in the background."""


class JwksKeys:
    """Keys behind a URL. Conforms to :class:`~msgd.notifier.auth.keys.Keys`; a :class:`~msgd.work.parts.Part`.

    Only what was read counts: while the URL has not answered, or not for too long, tokens are neither trusted nor
    called bad. Redirects are not followed: the operator names the place that is trusted.
    """

    def __init__(self, url: str, reactor: Any) -> None:
        self._url = url
        self._reactor = reactor
        self._agent = Agent(reactor, connectTimeout=FETCH_S)
        self._keys: Sequence[Key] = ()
        self._freshness = Freshness(0.0, 0.0)
        self._read_s = 0.0  # when they were read
        self._tried_s = float("-inf")  # when the last fetch began
        self._trouble = "not read yet"
        self._fetching = False
        self._waiting: list[Deferred[None]] = []  # for the fetch that is under way
        self._tasks = Tasks("reading a JWKS")

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to read; returns at once: a provider that is away keeps nobody's door shut but its own."""
        self._tasks.begin(self._keep_fresh())

    async def stop(self) -> None:
        """Read no more."""
        self._tasks.cancel()

    async def _keep_fresh(self) -> None:
        while True:
            await self._fetched()
            if self._trouble:
                await sleep(self._reactor, RETRY_S)
            else:
                await sleep(self._reactor, max(1.0, self._read_s + self._freshness.again_s - self._reactor.seconds()))

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def find(self, algorithm: str, kid: str) -> Found:
        if algorithm not in PUBLIC:
            return Found()
        found = self._find(algorithm, kid)
        if not found and (self._fetching or self._reactor.seconds() - self._tried_s >= UNKNOWN_S):
            await self._fetched()
            found = self._find(algorithm, kid)
        if found or not (self._trouble or self._is_old):
            return Found(found)
        # The key may be one that was published since.
        return Found((), Unavailable("the keys of the identity provider cannot be read just now", where="token"))

    def _find(self, algorithm: str, kid: str) -> Sequence[Key]:
        return () if self._is_old else [key for key in self._keys if key.may_have_signed(algorithm, kid)]

    @property
    def _is_old(self) -> bool:
        age_s: float = self._reactor.seconds() - self._read_s
        return age_s > self._freshness.end_s

    # -- fetching -----------------------------------------------------------------------------------------------------

    async def read(self) -> Sequence[Key]:
        """Read the keys once. Raises Unavailable."""
        await self._fetch()
        return self._keys

    async def _fetched(self) -> None:
        """Returns when a fetch has ended: the one under way, or a new one. Its failure is in ``_trouble``."""
        waiting: Deferred[None] = Deferred(lambda one: self._waiting.remove(one) if one in self._waiting else None)
        self._waiting.append(waiting)
        if not self._fetching:
            # Nobody's own: whoever asked for it may go away while others wait for it.
            self._fetching = True
            self._tasks.begin(self._fetch_for_all())
        await waiting

    async def _fetch_for_all(self) -> None:
        try:
            await self._fetch()
        except Unavailable as error:
            if error.message != self._trouble:
                _log.error("{trouble}", trouble=error.message)
            self._trouble = error.message
        except CancelledError:
            self._trouble = "stopped"
            raise
        finally:
            self._fetching = False
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    async def _fetch(self) -> None:
        """Read the keys anew. Raises Unavailable; then those that were read before stay."""
        self._tried_s = self._reactor.seconds()
        try:
            content, cache_control = await Deferred.fromCoroutine(self._get()).addTimeout(FETCH_S, self._reactor)
            keys, others = read_jwks(content)
        except CancelledError:
            raise
        except TimedOut:
            raise Unavailable(f"no answer from {self._url} within {FETCH_S:.0f} s", where="auth.jwks_url") from None
        except BadKey as error:
            raise Unavailable(f"no JWKS at {self._url}: {error}", where="auth.jwks_url") from None
        except Unavailable:
            raise
        except Exception as error:  # whatever connections, TLS and HTTP fail with
            raise Unavailable(f"no answer from {self._url}: {_reason(error)}", where="auth.jwks_url") from None
        if not keys:
            raise Unavailable(f"no key for RS256 or EdDSA among {others} at {self._url}", where="auth.jwks_url")
        if {key.kid for key in keys} != {key.kid for key in self._keys}:
            _log.info("{count} keys at {url}", count=len(keys), url=self._url)
        self._keys = keys
        self._freshness = freshness(cache_control)
        self._read_s = self._tried_s
        self._trouble = ""

    async def _get(self) -> tuple[bytes, str]:
        """The document and its ``Cache-Control``."""
        headers = Headers({"Accept": ["application/jwk-set+json, application/json"], "User-Agent": ["msgd"]})
        response = await self._agent.request(b"GET", self._url.encode("ascii"), headers)
        body: Any = pieces(response, self._reactor)
        content = b""
        try:
            async for piece in body:
                content += piece
                if len(content) > JWKS_BYTES:
                    raise BadKey(f"it is longer than {JWKS_BYTES} bytes")
        finally:
            await body.aclose()  # closes the connection if something is still to come
        if response.code != 200:
            raise BadKey(f"the answer is {response.code}")
        return content, ", ".join(response.headers.getRawHeaders("Cache-Control", []))


def _reason(error: Exception) -> str:
    """What an error of Twisted's HTTP client says of its cause."""
    causes = getattr(error, "reasons", None)
    if causes:
        return _reason(causes[0].value)
    return str(error) or type(error).__name__
