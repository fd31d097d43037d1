"""The HTTP calls of DESIGN §4.3 as methods; answers are the JSON objects the server sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from treq.client import HTTPClient
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS, IResponse
from zope.interface import implementer

from msgd import __version__, errors
from msgd.client.body import lines, pieces, whole
from msgd.client.place import check_secrecy, server_root
from msgd.client.refusals import error_of
from msgd.credentials import tls_to
from msgd.messages import json

TIMEOUT_S: Final = 30.0
"""For an answer to begin; streamed results may go on for longer."""

CONNECT_S: Final = 10.0

Json = dict[str, Any]

_UNREACHABLE: Final = (
    net.ConnectError,
    net.ConnectionLost,
    net.DNSLookupError,
    net.ConnectingCancelledError,
    RequestTransmissionFailed,
    ResponseFailed,
)


@implementer(IPolicyForHTTPS)
class _Trust:
    """The one server's TLS: no other host is called."""

    def __init__(self, tls: Any) -> None:
        self._tls = tls

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return self._tls


class Client:
    """Calls one msgd server.

    Every method raises the error that the server's problem document stands for; Unavailable if the server cannot be
    reached; PeerError if what answers is no msgd.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        token: str | Callable[[], str] = "",
        *,
        pool: HTTPConnectionPool | None = None,
        ca_file: str = "",
        clear_text: bool = False,
    ) -> None:
        """``url``: the server's root, ``http://127.0.0.1:8080``; ``token``: a JWT, empty, or what gives the one that
        is good now: asked at every call, and by a Watch when its token comes to its end; ``ca_file``: certificates
        (PEM) of those whom the server's must be from, in place of all that this machine trusts; ``clear_text``: show
        the token to another machine without TLS too. Raises InvalidInput, or ConfigError for what is no such file."""
        self.url = server_root(url)
        if token and not clear_text:
            check_secrecy(self.url)
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        self.tls: Any = tls_to(parts.hostname, ca_file=ca_file, where="ca_file") if parts.scheme == "https" else None
        self.reactor = reactor
        self._token = token
        self._pool = pool or HTTPConnectionPool(reactor, persistent=True)
        agent: Any = Agent(reactor, contextFactory=_Trust(self.tls), connectTimeout=CONNECT_S, pool=self._pool)
        self._http = HTTPClient(agent)

    @property
    def token(self) -> str:
        """The token to show now; empty: none."""
        token = self._token if isinstance(self._token, str) else self._token()
        return token.strip()  # a file, or what a command printed, ends with a line break

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.closeCachedConnections()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(
        self, type_: str, params: Mapping[str, Any], *, key: str = "", delay_s: float | None = None, priority: str = ""
    ) -> Json:
        """Submit a job: ``{id, topic, state}``. With a ``key``, repeating the call gives the same job;
        a ``type`` stands beside them if that job is of another type than this call asks for."""
        body: Json = {"type": type_, "params": params}
        if key:
            body["key"] = key
        if delay_s is not None:
            body["delay"] = delay_s
        if priority:
            body["priority"] = priority
        return cast(Json, await self._call("POST", "/api/jobs", body))

    async def jobs(self, **query: str | int) -> list[Json]:
        """Jobs, newest first; ``state``, ``type``, ``parent``, ``limit``, ``before``."""
        page = await self._call("GET", "/api/jobs", query=query)
        return cast("list[Json]", page["jobs"])

    async def job(self, job: str) -> Json:
        """A job: its state, params, progress, result or error."""
        return cast(Json, await self._call("GET", f"/api/jobs/{quote(job, safe='')}"))

    async def cancel(self, job: str) -> Json:
        """Request a job's end; its ``state`` says so once the end is recorded."""
        return cast(Json, await self._call("DELETE", f"/api/jobs/{quote(job, safe='')}"))

    async def retry(self, job: str) -> Json:
        """Run an ended job again."""
        return cast(Json, await self._call("POST", f"/api/jobs/{quote(job, safe='')}/retry"))

    async def results(self, job: str) -> AsyncIterator[Json]:
        """The job's results as they stand now, one by one as they arrive."""
        async for line in lines(await self._results(job, "ndjson"), self.reactor):
            yield cast(Json, self._decoded(line))

    async def export(self, job: str, format_: str) -> AsyncIterator[bytes]:
        """The same as a file (``json``, ``ndjson`` or ``csv``), piece by piece."""
        async for piece in pieces(await self._results(job, format_), self.reactor):
            yield piece

    async def _results(self, job: str, format_: str) -> IResponse:
        return await self._send("GET", f"/api/jobs/{quote(job, safe='')}/results", query={"format": format_})

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

    # -- rooms --------------------------------------------------------------------------------------------------------

    async def rooms(self, **query: str | int) -> Json:
        """A page of the rooms that may be read, by name: ``{rooms, next}``; ``after``, ``limit``."""
        return cast(Json, await self._call("GET", "/api/rooms", query=query))

    async def room(self, name: str) -> Json:
        """A room, with its first members."""
        return cast(Json, await self._call("GET", _room(name)))

    async def create_room(self, name: str, **fields: Any) -> Json:
        """A new room; ``title``, ``description``, ``private``, ``members``."""
        return cast(Json, await self._call("POST", "/api/rooms", {"name": name, **fields}))

    async def delete_room(self, name: str, *, keep_history: bool = False) -> None:
        """Delete a room, and what was said there."""
        await self._call("DELETE", _room(name), query={"keep": "history"} if keep_history else None)

    async def join_room(self, name: str, sub: str = "") -> None:
        """Put a member in; oneself, if none is named."""
        await self._call("PUT", _room(name, sub or await self._own_sub()))

    async def leave_room(self, name: str, sub: str = "") -> None:
        """Put a member out; oneself, if none is named."""
        await self._call("DELETE", _room(name, sub or await self._own_sub()))

    async def _own_sub(self) -> str:
        return str((await self._call("GET", "/api/session"))["sub"])

    # -- uploads ------------------------------------------------------------------------------------------------------

    async def upload(self, path: Path, *, name: str = "", thumbnails: bool = True) -> Json:
        """Send a file, which is read as it goes: ``{id, name, type, size, urls, job, topic}``. Raises InvalidInput if
        it cannot be read."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise errors.InvalidInput(f"{path} cannot be read: {error.strerror}", where=str(path)) from None
        query = {"name": name or path.name} | ({} if thumbnails else {"thumbnails": "0"})
        try:
            response = await self._send("POST", "/api/uploads", query=query, file=file)
            return cast(Json, self._decoded(await whole(response, self.reactor)))
        finally:
            file.close()

    # -- mail ---------------------------------------------------------------------------------------------------------

    async def mail(self, job: str) -> Json:
        """How many recipients of a mail are in each state: ``{job, states, recipients, complete, paused}``."""
        return cast(Json, await self._call("GET", f"/api/mail/{quote(job, safe='')}"))

    async def hold_mail(self, job: str, paused: bool) -> Json:
        """Send nothing more of a mail for a while, or let it go on: ``{job, paused}``."""
        return cast(
            Json, await self._call("POST", f"/api/mail/{quote(job, safe='')}/{'pause' if paused else 'resume'}")
        )

    async def recipients(self, job: str, states: Sequence[str] = ()) -> AsyncIterator[Json]:
        """The recipients of a mail, or those in some states, one by one, in order."""
        after = 0
        while after is not None:
            query: dict[str, str | int] = {"limit": 1000, "after": after, "state": ",".join(states)}
            page = await self._call("GET", f"/api/jobs/{quote(job, safe='')}/recipients", query=query)
            for one in page["recipients"]:
                yield cast(Json, one)
            after = page["next"]

    async def export_recipients(self, job: str, states: Sequence[str] = ()) -> AsyncIterator[bytes]:
        """The same as CSV, piece by piece."""
        query = {"format": "csv", "state": ",".join(states)}
        response = await self._send("GET", f"/api/jobs/{quote(job, safe='')}/recipients", query=query)
        async for piece in pieces(response, self.reactor):
            yield piece

    # -- upkeep -------------------------------------------------------------------------------------------------------

    async def dead(self, **query: str | int) -> list[Json]:
        """Dead letters, newest first; ``limit``, ``before``."""
        return cast("list[Json]", (await self._call("GET", "/api/dead", query=query))["dead"])

    async def dead_letter(self, letter: str) -> Json:
        """One dead letter, with the whole of its body."""
        return cast(Json, await self._call("GET", f"/api/dead/{quote(letter, safe='')}"))

    async def requeue_dead(self, letter: str) -> Json:
        """Publish a dead letter again to where it was going: ``{id, job}``."""
        return cast(Json, await self._call("POST", f"/api/dead/{quote(letter, safe='')}/requeue"))

    async def drop_dead(self, letter: str) -> Json:
        """Forget a dead letter: ``{id, job}``."""
        return cast(Json, await self._call("DELETE", f"/api/dead/{quote(letter, safe='')}"))

    async def types(self) -> list[Json]:
        """The job types that may be submitted."""
        return cast("list[Json]", (await self._call("GET", "/api/types"))["types"])

    async def pause(self, type_: str, paused: bool) -> Json:
        """Stop or let go on all workers of a job type; the type."""
        switch = "pause" if paused else "resume"
        return cast(Json, await self._call("POST", f"/api/types/{quote(type_, safe='')}/{switch}"))

    async def health(self) -> Json:
        """That the server is up; asked without a token."""
        return cast(Json, await self._call("GET", "/healthz"))

    # -- one call -----------------------------------------------------------------------------------------------------

    async def _call(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, str | int] | None = None
    ) -> Any:
        response = await self._send(method, path, body, query=query)
        content = await whole(response, self.reactor)
        return self._decoded(content) if content else {}

    def _decoded(self, content: bytes) -> Any:
        try:
            return msgspec.json.decode(content, type=Json)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise errors.PeerError(f"{self.url} does not answer as msgd does", where=self.url) from None

    async def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        file: BinaryIO | None = None,
    ) -> IResponse:
        headers = Headers({"User-Agent": [f"msgd/{__version__}"], "Accept": ["application/json, */*"]})
        token = self.token
        if token:
            headers.setRawHeaders("Authorization", [f"Bearer {token}"])
        data: Any = file
        if file is not None:
            headers.setRawHeaders("Content-Type", ["application/octet-stream"])
        if body is not None:
            headers.setRawHeaders("Content-Type", ["application/json"])
            data = json.encode(body)
        url = self.url + path + ("?" + urlencode(query) if query else "")
        try:
            reactor: Any = self.reactor
            asked: Deferred[IResponse] = self._http.request(
                method, url, headers=headers, data=data, unbuffered=True, reactor=reactor,
                timeout=TIMEOUT_S if file is None else None,  # a file takes as long as it takes
            )  # fmt: skip
            response = await asked
        except _UNREACHABLE as error:
            raise errors.Unavailable(f"{self.url} could not be reached: {_why(error)}", where=self.url) from error
        if response.code >= 400:
            after = response.headers.getRawHeaders("Retry-After", [""])[0]
            content = await whole(response, self.reactor)
            raise error_of(response.code, content, float(after) if after.isdecimal() else None)
        return response


def _room(name: str, member: str = "") -> str:
    return f"/api/rooms/{quote(name, safe='')}" + (f"/members/{quote(member, safe='')}" if member else "")


def _why(error: BaseException) -> str:
    """A word on a failed connection, also where Twisted wraps the reason."""
    reasons: Sequence[Any] = getattr(error, "reasons", ()) or ()
    if any(reason.check(CancelledError) for reason in reasons):
        return f"no answer within {TIMEOUT_S:g} s"
    inner = next((reason.getErrorMessage() for reason in reasons), "")
    return inner or str(error) or type(error).__name__
