"""The contract of HTTP routes: what a route is given, and what it gives back.

The notifier's own routes and those of services (their ``api.py``, mounted by the assembly) are written against this
module alone; ``http`` serves them. An endpoint raises :class:`~msgd.errors.MsgdError` for what went wrong; the caller
sees a problem document.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, Union

from msgspec import Raw, Struct
from twisted.internet.defer import Deferred

from msgd.errors import Forbidden
from msgd.messages import json
from msgd.messages.jobs import NORMAL
from msgd.messages.topics import covers, job_topic, user_topic

if TYPE_CHECKING:
    from msgd.database import Transaction
    from msgd.jobs.interface import Job, Submission  # the command line reads grants, and is to be light

T = TypeVar("T")

ADMIN: Final = "admin"
SUBSCRIBE: Final = "subscribe"
PUBLISH: Final = "publish"
SUBMIT: Final = "submit"
ACTIONS: Final = frozenset({ADMIN, SUBSCRIBE, PUBLISH, SUBMIT})

JSON: Final = "application/json"


class Grant(Struct, frozen=True):
    """A right: an action on what a pattern names (topics, or job types for ``submit``)."""

    action: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.action}:{self.pattern}"


class Principal(Struct, frozen=True, kw_only=True):
    """Who asks, and what they may (DESIGN §4.5)."""

    sub: str
    grants: tuple[Grant, ...] = ()
    expires_s: float  # seconds since 1970
    token_id: str = ""  # ``jti``, for revocation
    issued_s: float = 0.0  # ``iat``; 0 if the token does not tell

    def may(self, action: str, pattern: str) -> bool:
        """Whether a grant covers everything that ``pattern`` names; ``admin`` stands for every action."""
        return any(grant.action in (action, ADMIN) and covers(grant.pattern, pattern) for grant in self.grants)

    def may_read(self, pattern: str) -> bool:
        """Whether it may subscribe to a topic or pattern, and read its history. Its own jobs: see may_watch."""
        return self.may(SUBSCRIBE, pattern) or covers(f"{user_topic(self.sub)}.#", pattern)

    def may_publish(self, topic: str) -> bool:
        """Whether it may publish to a topic. Nobody speaks for a job from outside."""
        return topic.partition(".")[0] != "job" and self.may(PUBLISH, topic)

    def may_submit(self, type_: str) -> bool:
        return self.may(SUBMIT, type_)

    def may_watch(self, job: str, owner: str) -> bool:
        """Whether it may see a job: its own, or one that it may subscribe to."""
        return owner == self.sub or self.may(SUBSCRIBE, job_topic(job))

    def may_change(self, job: str, owner: str) -> bool:
        """Whether it may cancel a job or run it again."""
        return owner == self.sub or self.may(ADMIN, job_topic(job))

    def administers(self, pattern: str) -> bool:
        return self.may(ADMIN, pattern)

    def require(self, allowed: bool, what: str) -> None:
        """Raises Forbidden unless ``allowed``; ``what`` completes "the token does not allow …"."""
        if not allowed:
            raise Forbidden(f"the token of {self.sub!r} does not allow {what}")


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer. Header names in lower case."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = {}
    cookies: Sequence[str] = ()  # values of Set-Cookie


class Stream(Struct, frozen=True, kw_only=True):
    """An answer that is written as the client takes it; ``chunks`` is closed if the client goes away."""

    chunks: AsyncIterator[bytes]
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = {}


class Push(Struct, frozen=True, kw_only=True):
    """An answer that stays open: ``run`` is given the request once its head is to be sent, writes as things happen,
    and returns at the end. It is cancelled if the client goes away."""

    run: Callable[[Any], Awaitable[None]]
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = {}


class Taken(Struct, frozen=True):
    """The endpoint has taken over the connection (a WebSocket): nothing is left to write."""


Reply = Union[Answer, Stream, Push, Taken]


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """``value`` as a JSON answer."""
    return Answer(status=status, body=json.encode(value), headers=headers or {})


class Asked(Struct, frozen=True, kw_only=True):
    """Where a request comes from, and what it was sent to, as far as proxies can be believed (``proxies``)."""

    address: str  # under which strangers are counted; "" for whoever is on this machine
    host: str  # with its port, as the browser names it
    secure: bool  # it is known that the browser speaks TLS


class Call(Protocol):
    """One request, as an endpoint sees it."""

    @property
    def asked(self) -> Asked: ...

    @property
    def method(self) -> str: ...

    @property
    def principal(self) -> Principal:
        """Who asks. Raises Unauthenticated on routes that are ``open`` to callers without a token."""

    @property
    def words(self) -> Mapping[str, str]:
        """What stands in the path for the names in the route's template, decoded."""

    @property
    def body(self) -> bytes: ...

    def header(self, name: str) -> str:
        """A header's value, or ""."""

    def text(self, name: str, default: str = "") -> str:
        """A query parameter. Raises InvalidInput if it is given twice."""

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """A query parameter that is a number in bounds; more than ``most`` is ``most``. Raises InvalidInput."""

    def json(self, form: type[T]) -> T:
        """The body as ``form``. Raises InvalidInput (and its kinds) naming the field, or UnsupportedMedia."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body of a route that takes it as a stream, in pieces, as it comes; the client is read no faster than they
        are taken. Raises TooLarge beyond the route's limit. If the client goes away the endpoint is cancelled."""

    def gone(self) -> Deferred[None]:
        """Fires when the client has gone away. Cancel it to stop waiting."""


Endpoint = Callable[[Call], Awaitable[Reply]]


class Route(Struct, frozen=True, kw_only=True):
    """One method of one path, such as ``GET /api/jobs/{id}``."""

    method: str
    path: str  # words in braces stand for one segment each
    endpoint: Endpoint
    open: bool = False  # to callers without a token
    produces: tuple[str, ...] = (JSON,)  # empty: whatever the client accepts
    body_bytes: int | None = None  # None: the usual limit of a request
    streamed: bool = False  # the endpoint is called when the head has come, and takes the body from ``chunks``
    takes: tuple[str, ...] = (JSON,)  # what a body may be that comes with the cookie; empty: anything


class JobRequest(Struct, kw_only=True):
    """A job asked for."""

    type: str
    params: Raw = Raw(b"{}")
    key: str = ""
    delay: float = 0.0  # seconds
    priority: str = NORMAL


class Orders(Protocol):
    """What routes of services may have done, with all checks that the door makes for whoever asks."""

    def check_submit(self, who: Principal, type_: str) -> None:
        """Raises what :meth:`submit` would raise now, whatever the params: Forbidden, or Overloaded while too much
        waits. For routes that have much to do before they submit."""

    async def submit(self, who: Principal, request: JobRequest, *, traceparent: str = "") -> Job:
        """Make a job; it is safe when this returns. Raises InvalidInput (and its kinds) naming the field, Forbidden,
        Overloaded, DatabaseUnavailable."""

    async def submission(self, who: Principal, request: JobRequest, *, traceparent: str = "") -> Submission:
        """What :meth:`submit` would make a job of, with all its checks and errors: for routes that make one in a
        transaction of their own (:meth:`~msgd.jobs.interface.Jobs.submit_within`)."""

    async def job(self, who: Principal, job: str) -> Job:
        """A job that ``who`` may see. Raises NotFound, also for one that is not theirs to know of."""

    async def cancel(self, who: Principal, job: str) -> Job:
        """End a job; one that has ended is returned as it is. Raises NotFound, Forbidden."""


Suspend = Callable[["Transaction", str], object]
"""What goes on without a token in the name of a ``sub``, a rule say, is stopped in the transaction that revokes its
tokens. Blocking, in a database thread."""

Mount = Callable[[Orders], Sequence[Route]]
"""The routes of a service, which order from what they are given."""
