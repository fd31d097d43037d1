"""The HTTP calls of DESIGN §4.3 as methods; answers are the JSON objects the server sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet import error as net
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from msgd import __version__, errors
from msgd.client.body import lines
from msgd.messages import json

TIMEOUT_S: Final = 30.0
"""For an answer to begin; streamed results may go on for longer."""

CONNECT_S: Final = 10.0

Json = dict[str, Any]

_UNREACHABLE: Final = (
    net.ConnectError,
    net.ConnectionLost,
    net.DNSLookupError,
    net.TimeoutError,
    ResponseFailed,
    ResponseNeverReceived,
)


def _by_code(base: type[errors.MsgdError]) -> dict[str, type[errors.MsgdError]]:
    found = {base.code: base}
    for kind in base.__subclasses__():
        found.update(_by_code(kind))
    return found


_ERRORS: Final = _by_code(errors.MsgdError)


class Problem(msgspec.Struct):
    """What is read of a problem document (RFC 9457)."""

    detail: str = ""
    title: str = ""
    code: str = ""
    where: str = ""


def error_of(status: int, body: bytes, retry_after: float | None = None) -> errors.MsgdError:
    """The error that a refused call stands for: by the document's ``code``, else by the HTTP status."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem(detail=f"the server answered {status}")
    kind = _ERRORS.get(problem.code)
    if kind is None:
        kind = {
            401: errors.Unauthenticated,
            403: errors.Forbidden,
            404: errors.NotFound,
            409: errors.Conflict,
            429: errors.RateLimited,
        }.get(status, errors.InvalidInput if status < 500 else errors.Unavailable)
    return kind(problem.detail or problem.title or f"status {status}", where=problem.where, retry_after=retry_after)


class Client:
    """Calls one msgd server. ``url`` is its root, ``http://127.0.0.1:8080``; ``token`` a JWT, or empty."""

    def __init__(self, reactor: IReactorTime, url: str, token: str = "", *, pool: HTTPConnectionPool | None = None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise errors.InvalidInput(f"{url!r} is not the address of a server, such as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self.token = token
        self.reactor = reactor
        self._pool = pool or HTTPConnectionPool(reactor, persistent=True)
        agent: Any = Agent(reactor, connectTimeout=CONNECT_S, pool=self._pool)
        self._http = HTTPClient(agent)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.closeCachedConnections()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(
        self, type_: str, params: Mapping[str, Any], *, key: str = "", delay_s: float | None = None, priority: str = ""
    ) -> Json:
        """Submit a job: ``{id, topic, state}``. With a ``key``, repeating the call gives the same job."""
        body: Json = {"type": type_, "params": params}
        if key:
            body["key"] = key
        if delay_s is not None:
            body["delay"] = delay_s
        if priority:
            body["priority"] = priority
        return cast(Json, await self._call("POST", "/api/jobs", body))

    async def jobs(self, **query: str | int) -> list[Json]:
        """Jobs, newest first; ``state``, ``type``, ``limit``, ``before``."""
        page = await self._call("GET", "/api/jobs", query=query)
        return cast("list[Json]", page["jobs"] if isinstance(page, dict) else page)

    async def job(self, job: str) -> Json:
        return cast(Json, await self._call("GET", f"/api/jobs/{quote(job, safe='')}"))

    async def cancel(self, job: str) -> Json:
        return cast(Json, await self._call("DELETE", f"/api/jobs/{quote(job, safe='')}"))

    async def retry(self, job: str) -> Json:
        """Run an ended job again."""
        return cast(Json, await self._call("POST", f"/api/jobs/{quote(job, safe='')}/retry"))

    async def results(self, job: str, format_: str = "ndjson") -> AsyncIterator[bytes]:
        """The job's results as they stand now, line by line (``json`` is one long line; ``csv`` has a head)."""
        response = await self._send("GET", f"/api/jobs/{quote(job, safe='')}/results", query={"format": format_})
        async for line in lines(response):
            yield line

    # -- events -------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, type_: str, data: Any = None, *, id_: str = "") -> Json:
        """Publish an event; returns when the broker has it. Repeating it under the same id adds nothing."""
        event: Json = {"topic": topic, "type": type_, "data": data}
        if id_:
            event["id"] = id_
        return cast(Json, await self._call("POST", "/api/events", event))

    async def history(self, topic: str, **query: str | int) -> Json:
        """A page of a topic: ``{events, cursor, gap?}``; ``since``, ``before``, ``limit``."""
        return cast(Json, await self._call("GET", f"/api/topics/{quote(topic, safe='')}/events", query=query))

    async def health(self) -> Json:
        return cast(Json, await self._call("GET", "/healthz"))

    # -- one call -----------------------------------------------------------------------------------------------------

    async def _call(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, str | int] | None = None
    ) -> Any:
        response = await self._send(method, path, body, query=query)
        content: bytes = await treq.content(response)
        return msgspec.json.decode(content) if content else {}

    async def _send(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, str | int] | None = None
    ) -> IResponse:
        headers = Headers({"User-Agent": [f"msgd/{__version__}"], "Accept": ["application/json, */*"]})
        if self.token:
            headers.setRawHeaders("Authorization", [f"Bearer {self.token}"])
        data = None
        if body is not None:
            headers.setRawHeaders("Content-Type", ["application/json"])
            data = json.encode(body)
        url = self.url + path + ("?" + urlencode(query) if query else "")
        try:
            asked: Deferred[IResponse] = self._http.request(method, url, headers=headers, data=data, timeout=TIMEOUT_S)
            response = await asked
        except _UNREACHABLE as error:
            raise errors.Unavailable(f"{self.url} could not be reached: {_why(error)}", where=self.url) from error
        if response.code >= 400:
            after = response.headers.getRawHeaders("Retry-After", [""])[0]
            raise error_of(response.code, await treq.content(response), float(after) if after.isdecimal() else None)
        return response


def _why(error: BaseException) -> str:
    """A word on a failed connection, also where Twisted wraps the reason."""
    reasons: Sequence[Any] = getattr(error, "reasons", ()) or ()
    inner = next((reason.getErrorMessage() for reason in reasons), "")
    return inner or str(error) or type(error).__name__
