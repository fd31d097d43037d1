"""The door: every request is routed from here, and every answer written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from msgd.clock import Clock
from msgd.errors import MsgdError, NotFound, Unauthenticated
from msgd.notifier.admission import Admission
from msgd.notifier.allowances import Allowances
from msgd.notifier.auth.entry import Entry
from msgd.notifier.calls import BoundedRequest, Expected, RequestCall, header, headers, is_json, peer_of, token_of
from msgd.notifier.flow import Flow, log_broken_off
from msgd.notifier.interface import JSON, Answer, Asked, Principal, Push, Reply, Route, Stream, Taken
from msgd.notifier.limits import IDLE_S, PACE_BYTES, REQUEST_BYTES, SWALLOW_BYTES
from msgd.notifier.origins import Origins
from msgd.notifier.problems import HIDDEN, NotAcceptable, UnsupportedMedia, problem
from msgd.notifier.proxies import Proxies
from msgd.notifier.router import Found, Router

_log = Logger()

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 §9.2.1)."""

_NOT_WANTED: Final = re.compile(r"q\s*=\s*0(\.0{0,3})?")
"""The weight by which ``Accept`` rules something out (RFC 9110 §12.4.2)."""

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

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        nothing: Route,
        entry: Entry,
        allowances: Allowances,
        origins: Origins,
        proxies: Proxies,
        admission: Admission,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._router = Router(routes)
        self._nothing = Found(nothing, {})
        self._entry = entry
        self._allowances = allowances
        self._origins = origins
        self._proxies = proxies
        self._admission = admission
        self._clock = clock

    def expected(self, method: str, uri: bytes) -> Expected:
        """What a request may bring."""
        try:
            route = self._router.find(method, _path(uri)).route
        except MsgdError:
            return Expected(REQUEST_BYTES)
        return Expected(REQUEST_BYTES if route.body_bytes is None else route.body_bytes, route.streamed)

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
        except Exception:  # a mistake of ours: the client is answered 500, and nothing of what it was
            _log.failure("{method} {path} failed", method=request.method, path=request.path)
            reply = problem(HIDDEN)
        if request.incoming is not None and not request.incoming.ended:
            await _swallow(request)
        if isinstance(reply, Taken) or request._disconnected:
            return
        self._write_head(request, reply)
        if isinstance(reply, Answer):
            request.setHeader("content-length", str(len(reply.body)))
            request.write(b"" if request.method == b"HEAD" else reply.body)
        elif request.method == b"HEAD":
            request.write(b"")
        elif isinstance(reply, Push):
            await _push(request, reply)
        else:
            await Flow(request, reply, self._clock).run()
        request.finish()

    async def _reply(self, request: Any) -> Reply:
        if request.too_large:
            _close_after(request)
            raise request.over()
        method, path = request.method.decode("latin-1"), _path(request.uri)
        if method == "OPTIONS":
            return self._options(request, path)
        try:
            found = self._router.find(method, path)
        except NotFound:
            if method not in ("GET", "HEAD") or path.startswith("/api/") or not _shows_pages(header(request, "accept")):
                raise
            found = self._nothing
        _check_accept(header(request, "accept"), found.route.produces)
        asked = self._proxies.look(peer_of(request), partial(headers, request), secure=request.isSecure())
        principal, refusal = await self._principal(request, found.route, asked)
        if principal is not None:
            self._allowances.request(principal)
        elif not found.route.open:
            raise refusal
        return await found.route.endpoint(RequestCall(request, found, asked, principal, refusal))

    async def _principal(self, request: Any, route: Route, asked: Asked) -> tuple[Principal | None, MsgdError]:
        """Who asks, or why that is not known."""
        token, by_cookie = token_of(request)
        if not token:
            return None, Unauthenticated("a token is needed: Authorization: Bearer …, or a session cookie")
        if by_cookie and route.method not in SAFE:
            self._origins.check_write(header(request, "origin"), asked, header(request, "sec-fetch-site"))
            _check_takes(request, route)
        try:
            return await self._entry.principal(token, asked.address), HIDDEN
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

    def _write_head(self, request: Any, reply: Answer | Stream | Push) -> None:
        request.setResponseCode(reply.status)
        if self._admission.closed:
            # Nothing more comes over this connection: a proxy that keeps it must not send the next request here.
            _close_after(request)
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


def _close_after(request: Any) -> None:
    """Nothing more comes over this connection after the answer."""
    request.setHeader("connection", "close")
    request.channel.persistent = False


async def _swallow(request: Any) -> None:
    """Let the rest of a body come that its endpoint did not want; what is too much for that is not waited for."""
    await request.incoming.swallow(SWALLOW_BYTES)
    if not request.incoming.ended and not request._disconnected:
        _close_after(request)


async def _push(request: Any, reply: Push) -> None:
    """Leave the answer open until it ends; where it breaks off its client has to connect anew, as after any end."""
    try:
        await reply.run(request)
    except CancelledError:
        raise
    except Exception as error:  # whatever it is: the head is long out, and the end is all that can be said
        log_broken_off(request, error)


class PacedChannel(HTTPChannel):
    """One HTTP/1.1 connection. Twisted takes every byte for progress; here a request has to keep a pace."""

    def __init__(self) -> None:
        super().__init__()
        self._between = True  # two requests: the next byte begins one
        self._came = 0  # bytes since the timer was set
        self._held = False  # its body is not being read
        self._lost = False

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
        if self._held:
            self.setTimeout(self.timeOut)  # as it is to be again after the answer
        super().allContentReceived()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self._lost = True
        super().connectionLost(reason)

    def hold(self) -> None:
        """Read no more of a body, which is not its client's fault."""
        self._held = True
        self.setTimeout(None)
        producer: Any = self._networkProducer
        producer.pauseProducing()

    def go_on(self) -> None:
        """Read on."""
        self._held = False
        if not self._handlingRequest and not self._lost:  # else all has come meanwhile, or nothing more comes
            self._came = 0
            self.setTimeout(self.timeOut)
        producer: Any = self._networkProducer
        producer.resumeProducing()


class DoorSite(Site):
    """The factory of HTTP connections."""

    protocol = PacedChannel  # type: ignore[assignment]  # of HTTP/1.1 only: BoundedRequest knows no other
    requestFactory = BoundedRequest
    displayTracebacks = False
    noisy = False  # who listens where is told by whoever makes us listen

    def __init__(self, door: Door, reactor: Any) -> None:
        super().__init__(door, timeout=IDLE_S, reactor=reactor, parsePOSTFormSubmission=False)
        self.expected: Callable[[str, bytes], Expected] = door.expected

    def log(self, request: Any) -> None:
        """No access log: a proxy has one, and addresses hold ids that are nobody's business."""


def _path(uri: bytes) -> str:
    return uri.partition(b"?")[0].decode("latin-1")


def _unless_gone(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("an answer could not be written", failure)


def _check_takes(request: Any, route: Route) -> None:
    """Raises UnsupportedMedia for a body with the cookie that a mere form of a foreign page could send: those are of
    other kinds than JSON (Fetch standard, "CORS-safelisted request-header")."""
    kind = header(request, "content-type").partition(";")[0].strip().lower()
    if not request.has_body or not route.takes or kind in route.takes or (JSON in route.takes and is_json(kind)):
        return
    raise UnsupportedMedia(f"with the cookie the body must be {' or '.join(route.takes)}", where="content-type")


def _shows_pages(accept: str) -> bool:
    """Whether who asks is a browser that goes to a page: clients of the API take anything, and name no HTML."""
    return any(part.split(";")[0].strip().lower() == "text/html" for part in accept.split(","))


def _check_accept(accept: str, produces: Sequence[str]) -> None:
    """Raises NotAcceptable if ``Accept`` rules out everything that a route produces (RFC 9110 §12.5.1)."""
    if not accept or not produces:
        return
    for part in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        if any(_NOT_WANTED.fullmatch(word) for word in parameters):
            continue
        family = kind.removesuffix("/*")
        for one in produces:
            if kind in ("*/*", one) or (kind.endswith("/*") and one.startswith(family + "/")):
                return
    raise NotAcceptable(f"this comes as {', '.join(produces)} only", where="accept")
