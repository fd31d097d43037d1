"""The door: every request is routed from here, and every answer written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from msgd.clock import Clock
from msgd.errors import MsgdError, TooLarge, Unauthenticated
from msgd.notifier.auth import Tokens
from msgd.notifier.calls import BoundedRequest, RequestCall, header, token_of
from msgd.notifier.flow import Flow
from msgd.notifier.interface import Answer, Principal, Reply, Route, Stream, Taken
from msgd.notifier.limits import IDLE_S, PACE_BYTES, REQUEST_BYTES
from msgd.notifier.origins import Origins
from msgd.notifier.problems import HIDDEN, NotAcceptable, problem
from msgd.notifier.router import Router

_log = Logger()

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 §9.2.1)."""

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # addresses hold job ids
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""On every answer that does not say otherwise."""


class Door(Resource):
    """The one resource: everything is routed from here."""

    isLeaf = True

    def __init__(self, routes: Sequence[Route], *, tokens: Tokens, origins: Origins, clock: Clock) -> None:
        super().__init__()
        self._router = Router(routes)
        self._tokens = tokens
        self._origins = origins
        self._clock = clock

    def body_limit(self, method: str, uri: bytes) -> int:
        """How long the body of a request may be."""
        try:
            found = self._router.find(method, _path(uri))
        except MsgdError:
            return REQUEST_BYTES
        return REQUEST_BYTES if found.route.body_bytes is None else found.route.body_bytes

    def render(self, request: Any) -> int:
        """Begin to answer."""
        answering = Deferred.fromCoroutine(self._answer(request))
        finished = request.notifyFinish()
        finished.addErrback(lambda _: answering.cancel())
        answering.addErrback(_unless_gone)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> None:
        reply: Reply
        try:
            reply = await self._reply(request)
        except MsgdError as error:
            reply = problem(error)
        except CancelledError:
            raise
        except Exception:
            _log.failure("{method} {path} failed", method=request.method, path=request.path)
            reply = problem(HIDDEN)
        if isinstance(reply, Taken) or request._disconnected:
            return
        self._write_head(request, reply)
        if isinstance(reply, Answer):
            request.setHeader("content-length", str(len(reply.body)))
            request.write(b"" if request.method == b"HEAD" else reply.body)
        elif request.method != b"HEAD":
            await Flow(request, reply, self._clock).run()
        request.finish()

    async def _reply(self, request: Any) -> Reply:
        if request.too_large:
            request.setHeader("connection", "close")
            request.channel.persistent = False
            raise TooLarge(f"the body is over the limit of {request.limit} bytes", where="body")
        method, path = request.method.decode("latin-1"), _path(request.uri)
        if method == "OPTIONS":
            return self._options(request, path)
        found = self._router.find(method, path)
        _check_accept(header(request, "accept"), found.route.produces)
        principal, refusal = await self._principal(request, method)
        if principal is None and not found.route.open:
            raise refusal
        return await found.route.endpoint(RequestCall(request, found, principal, refusal))

    async def _principal(self, request: Any, method: str) -> tuple[Principal | None, MsgdError]:
        """Who asks, or why that is not known."""
        token, by_cookie = token_of(request)
        if not token:
            return None, Unauthenticated("a token is needed: Authorization: Bearer …, or a session cookie")
        if by_cookie and method not in SAFE:
            self._origins.check_write(
                header(request, "origin"), header(request, "host"), header(request, "sec-fetch-site")
            )
        try:
            return await self._tokens.principal(token), HIDDEN
        except MsgdError as refusal:
            return None, refusal

    def _options(self, request: Any, path: str) -> Answer:
        methods = self._router.methods(path)
        headers = {"allow": methods}
        if self._origins.may_read(header(request, "origin")):
            headers |= {
                "access-control-allow-methods": methods,
                "access-control-allow-headers": "authorization, content-type, last-event-id",
                "access-control-max-age": "600",
            }
        return Answer(status=204, content_type="", headers=headers)

    def _write_head(self, request: Any, reply: Answer | Stream) -> None:
        request.setResponseCode(reply.status)
        request.responseHeaders.removeHeader("server")
        request.responseHeaders.removeHeader("content-type")
        if reply.content_type:
            request.setHeader("content-type", reply.content_type)
        for name, value in {**SECURITY_HEADERS, **reply.headers}.items():
            request.setHeader(name, value)
        origin = header(request, "origin")
        if self._origins.may_read(origin):
            request.setHeader("access-control-allow-origin", origin)
            request.setHeader("access-control-expose-headers", "location, retry-after, content-disposition")
            request.setHeader("cross-origin-resource-policy", "cross-origin")
            request.responseHeaders.addRawHeader("vary", "origin")
        if isinstance(reply, Answer):
            for cookie in reply.cookies:
                request.responseHeaders.addRawHeader("set-cookie", cookie)


class PacedChannel(HTTPChannel):
    """One HTTP/1.1 connection. Twisted takes every byte for progress; here a request has to keep a pace."""

    def __init__(self) -> None:
        super().__init__()
        self._between = True  # two requests: the next byte begins one
        self._came = 0  # bytes since the timer was set

    def dataReceived(self, data: bytes) -> None:
        self._came += len(data)
        super().dataReceived(data)

    def resetTimeout(self) -> None:
        """Called for whatever comes."""
        if self._between or self._came >= PACE_BYTES:
            self._between = False
            self._came = 0
            super().resetTimeout()

    def allContentReceived(self) -> None:
        self._between = True
        super().allContentReceived()


class DoorSite(Site):
    """The factory of HTTP connections."""

    protocol = PacedChannel  # type: ignore[assignment]  # of HTTP/1.1 only: BoundedRequest knows no other
    requestFactory = BoundedRequest
    displayTracebacks = False
    noisy = False  # who listens where is told by whoever makes us listen

    def __init__(self, door: Door, reactor: Any) -> None:
        super().__init__(door, timeout=IDLE_S, reactor=reactor, parsePOSTFormSubmission=False)
        self.body_limit: Callable[[str, bytes], int] = door.body_limit

    def log(self, request: Any) -> None:
        """No access log: a proxy has one, and addresses hold ids that are nobody's business."""


def _path(uri: bytes) -> str:
    return uri.partition(b"?")[0].decode("latin-1")


def _unless_gone(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("an answer could not be written", failure)


def _check_accept(accept: str, produces: Sequence[str]) -> None:
    """Raises NotAcceptable if ``Accept`` rules out everything that a route produces (RFC 9110 §12.5.1)."""
    if not accept or not produces:
        return
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if any(word.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for word in parameters):
            continue
        family = kind.removesuffix("/*")
        for one in produces:
            if kind in ("*/*", one) or (kind.endswith("/*") and one.startswith(family + "/")):
                return
    raise NotAcceptable(f"this comes as {', '.join(produces)} only", where="accept")
