"""A small client that blocks, for programs without a reactor: a web application, a script, a notebook.

::

    from msgd.client.blocking import Client

    msgd = Client("http://127.0.0.1:8080", token)
    job = msgd.submit("crawl", {"url": "https://example.com/"})
    print(msgd.wait(job["id"])["state"])
    for event in msgd.events("app.invoice.*", since=stored_cursor):
        ...

Every call may be repeated, as submissions and events always carry an id: so a server that restarts, a lost connection
and a 503 are waited out, and nothing comes twice. One client serves one thread.
"""

from __future__ import annotations

import random
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from msgd import __version__, errors
from msgd.client.place import check_secrecy, server_root
from msgd.client.refusals import error_of
from msgd.messages import json
from msgd.messages.topics import check_pattern, job_topic

TIMEOUT_S: Final = 30.0
"""For an answer, beside the time that a long-poll asks for."""

PATIENCE_S: Final = 60.0
"""How long a server that cannot be reached is tried: longer than a restart takes."""

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0
"""Bounds of the full-jitter backoff between tries."""

POLL_S: Final = 25.0
"""One long-poll: below the 30 s after which the meanest proxies forget an idle connection."""

PIECE_BYTES: Final = 64 * 1024

ENDED: Final = frozenset({"done", "failed", "cancelled"})

Json = dict[str, Any]


class Client:
    """Calls one msgd server, and waits for the answers.

    Every method raises the error that the server's problem document stands for (:mod:`msgd.errors`); Unavailable if the
    server has not been reached within ``patience_s``; PeerError if what answers is no msgd.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str] = "",
        *,
        ca_file: str = "",
        clear_text: bool = False,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``url``: the server's root; ``token``: a JWT, empty, or what gives the one that is good now; ``ca_file``:
        certificates (PEM) of those whom the server's must be from, in place of all that this machine trusts;
        ``clear_text``: show the token to another machine without TLS too. Raises InvalidInput, or OSError for what is
        no such file."""
        self.url = server_root(url)
        if token and not clear_text:
            check_secrecy(self.url)
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        self._make: Callable[..., HTTPConnection] = HTTPConnection
        if parts.scheme == "https":
            self._make = partial(HTTPSConnection, context=ssl.create_default_context(cafile=ca_file or None))
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path
        self._token = token
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._jitter = jitter
        self._sleep = sleep
        self._now_s = now_s
        self._connection: HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def submit(
        self, type_: str, params: Mapping[str, Any], *, key: str = "", delay_s: float = 0.0, priority: str = ""
    ) -> Json:
        """Submit a job: ``{id, topic, state}``. With a ``key`` of your own, also a later call gives the same
        job; a ``type`` stands beside them if that job is of another type than this call asks for."""
        body: Json = {"type": type_, "params": params, "key": key or uuid.uuid4().hex}
        if delay_s:
            body["delay"] = delay_s
        if priority:
            body["priority"] = priority
        return self._json("POST", "/api/jobs", body)

    def job(self, job: str) -> Json:
        """A job: its state, params, progress, result or error."""
        return self._json("GET", f"/api/jobs/{_word(job)}")

    def jobs(self, **query: str | int) -> list[Json]:
        """Jobs, newest first; ``state``, ``type``, ``limit``, ``before``."""
        return cast("list[Json]", self._json("GET", "/api/jobs", query=query)["jobs"])

    def cancel(self, job: str) -> Json:
        """Request a job's end; its ``state`` says so once the end is recorded."""
        return self._json("DELETE", f"/api/jobs/{_word(job)}")

    def wait(self, job: str, *, timeout_s: float | None = None) -> Json:
        """The job, once it has ended, with all of its results recorded. Raises Unavailable when the time is up."""
        end_s = None if timeout_s is None else self._now_s() + timeout_s
        cursor = self.history(job_topic(job), limit=1)["cursor"]
        while (found := self.job(job))["state"] not in ENDED:
            left_s = POLL_S if end_s is None else end_s - self._now_s()
            if left_s <= 0:
                raise errors.Unavailable(f"the job {job} is still {found['state']}", where="timeout_s")
            cursor = self._poll([job_topic(job)], cursor, min(left_s, POLL_S))["cursor"]
        return found

    def results(self, job: str) -> Iterator[Json]:
        """The job's results as they stand now, one by one as they arrive. Close it, or take them all."""
        response = self._send("GET", f"/api/jobs/{_word(job)}/results", query={"format": "ndjson"})
        try:
            for line in response:
                yield _decoded(line, self.url)
        except (OSError, HTTPException) as error:
            raise errors.Unavailable("the connection was lost in the middle of the results") from error
        finally:
            if not response.isclosed():
                self.close()  # the rest of the answer is in its way

    # -- events -------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, type_: str, data: Any = None, *, id_: str = "") -> str:
        """Publish an event; its id, once it is safe. Publishing it again under that id adds nothing."""
        return self.publish_all([{"topic": topic, "type": type_, "data": data, "id": id_}])[0]

    def publish_all(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Publish several, each ``{topic, type, data, id?}``, in their order; their ids."""
        batch = [{**event, "id": event.get("id") or uuid.uuid4().hex} for event in events]
        self._json("POST", "/api/events", batch)
        return [event["id"] for event in batch]

    def history(self, topic: str, **query: str | int) -> Json:
        """A page of a topic: ``{events, cursor, more, gap?}``; ``since``, ``before``, ``limit``."""
        return self._json("GET", f"/api/topics/{_word(topic)}/events", query=query)

    def events(self, *topics: str, since: str | None = None, patience_s: float = float("inf")) -> Iterator[Json]:
        """What happens on topics and patterns, without end: ``event`` messages, each kept event once and in order, and
        ``gap`` messages that say what is lost (both with ``op``, as on the WebSocket).

        ``since``: None from now on, ``"0"`` from the first kept, or the ``cursor`` of an event. A server that cannot be
        reached is waited for, ``patience_s`` at most. Raises InvalidTopic, InvalidCursor, Forbidden.
        """
        names = [check_pattern(topic) for topic in topics]
        cursor = since
        while True:
            page = self._poll(names, cursor, POLL_S, patience_s=patience_s)
            for gap in page.get("gaps", ()):
                yield {"op": "gap", **gap}
            for event in page["events"]:
                yield {"op": "event", **event}
            cursor = page["cursor"]

    def presence(self, topic: str) -> list[str]:
        """Who reads a topic now."""
        return cast("list[str]", self._json("GET", f"/api/topics/{_word(topic)}/presence")["members"])

    def _poll(
        self, topics: Sequence[str], since: str | None, wait_s: float, *, patience_s: float | None = None
    ) -> Json:
        query: dict[str, str | int] = {"topics": ",".join(topics), "wait": f"{wait_s:.1f}"}
        if since is not None:
            query["since"] = since
        return self._json("GET", "/api/events", query=query, wait_s=wait_s, patience_s=patience_s)

    # -- one call -----------------------------------------------------------------------------------------------------

    def _json(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        wait_s: float = 0.0,
        patience_s: float | None = None,
    ) -> Json:
        patience_s = self._patience_s if patience_s is None else patience_s
        end_s = self._now_s() + patience_s
        attempt = 0
        while True:
            try:
                return self._once(method, path, body, query, wait_s)
            except errors.MsgdError as error:
                ceiling_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 16))
                pause_s = ceiling_s * self._jitter() if error.retry_after is None else error.retry_after
                if not error.retryable or self._now_s() + pause_s > end_s:
                    raise
                attempt += 1
                self._sleep(pause_s)

    def _once(self, method: str, path: str, body: object, query: Mapping[str, str | int] | None, wait_s: float) -> Json:
        response = self._send(method, path, body, query=query, wait_s=wait_s)
        try:
            content = response.read()
        except (OSError, HTTPException) as error:
            self.close()
            raise errors.Unavailable(f"{self.url} broke off its answer", where=self.url) from error
        return _decoded(content, self.url)

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int] | None = None,
        wait_s: float = 0.0,
    ) -> HTTPResponse:
        headers = {"User-Agent": f"msgd/{__version__}", "Accept": "application/json, */*"}
        # A file, or what a command printed, ends with a line break; a header must not hold one.
        token = (self._token if isinstance(self._token, str) else self._token()).strip()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.encode(body)
        target = self._base + path + ("?" + urlencode(query) if query else "")
        try:
            connection = self._open(self._timeout_s + wait_s)
            connection.request(method, target, data, headers)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            self.close()
            raise errors.Unavailable(f"{self.url} could not be reached: {error}", where=self.url) from error
        if response.status >= 400:
            after = response.getheader("Retry-After", "")
            content = response.read(PIECE_BYTES)
            self.close()
            raise error_of(response.status, content, float(after) if after.isdecimal() else None)
        return response

    def _open(self, timeout_s: float) -> HTTPConnection:
        if self._connection is None:
            self._connection = self._make(self._host, self._port, timeout=timeout_s)
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection


def _word(text: str) -> str:
    return quote(text, safe="")


def _decoded(content: bytes, url: str) -> Json:
    try:
        return msgspec.json.decode(content, type=Json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.PeerError(f"{url} does not answer as msgd does", where=url) from None
