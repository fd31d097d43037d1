"""Events of topics over a WebSocket (``msgd.v1``, DESIGN §4.4), in order, over reconnects."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from msgd.client.connection import Connection, Message, dial
from msgd.client.http import Client
from msgd.client.refusals import error_of
from msgd.clock import sleep
from msgd.errors import Forbidden, MsgdError, PeerError, Unauthenticated, Unavailable
from msgd.messages import json
from msgd.messages.topics import check_pattern, matches
from msgd.work.once import Once

_log = Logger()

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
"""Bounds of the full-jitter backoff between connections."""

AHEAD_BYTES: Final = 1024 * 1024
"""What may wait to be read before the socket is told to pause."""

TOKEN_REF: Final = "token"  # noqa: S105 - the ref of an operation
SHOWN: Final = frozenset({"subscribed", "state", "event", "gap"})
"""What is about topics; the rest of the conversation is the connection's own."""


class Watch:
    """What happens on topics and patterns, as an endless iterator of the server's messages: ``subscribed``, ``state``,
    ``event`` and ``gap``, as dicts.

    ``since``: None from now on, ``"0"`` from the first kept, or a cursor. Each kept event comes once and in order, also
    over reconnects and where topics overlap; a ``gap`` says what is lost. Not more than ``AHEAD_BYTES`` and one read of
    the socket wait for the reader; a connection that a slow reader loses is made again when there is room.

    Ends by raising: Unauthenticated, Forbidden or PeerError when the server will not have us, InvalidInput for a topic
    or cursor that it does not take, NotFound for a job there is not; with ``patient`` False also Unavailable when the
    first connection fails. Everything else is waited out, for the time the server advises if it does.
    """

    def __init__(
        self,
        client: Client,
        topics: Sequence[str],
        *,
        since: str | None = None,
        jitter: Callable[[], float],
        patient: bool = True,
        on_status: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``jitter`` gives numbers from 0 to 1; ``on_status`` is told, for people, how the connection is. Raises
        InvalidTopic."""
        self._client = client
        self._since: dict[str, str | None] = {check_pattern(topic): since for topic in topics}
        self._topics = tuple(self._since)
        self._jitter = jitter
        self._patient = patient
        self._status = on_status
        self._messages: deque[tuple[Message, int]] = deque()
        self._ahead = 0  # bytes of those
        self._waiting: Deferred[None] | None = None  # the reader, for a message
        self._room = Once()  # for the next connection of a reader that fell behind
        self._running: Deferred[None] | None = None
        self._ended: Exception | None = None
        self._connection: Connection | None = None
        self._refusal: MsgdError | None = None
        self._token = ""  # the one shown last
        self._met = False  # whether it has ever been subscribed
        self._attempt = 0
        self._advised_s: float | None = None

    # -- the reader's side --------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        if self._running is None and self._ended is None:
            self._running = Deferred.fromCoroutine(self._run())
        while not self._messages:
            if self._ended is not None:
                raise self._ended
            self._waiting = Deferred()
            await self._waiting
        message, size = self._messages.popleft()
        self._ahead -= size
        if self._ahead <= AHEAD_BYTES // 2:
            self._room.happen()
            if self._connection is not None:
                self._connection.hold(False)
        return message

    @property
    def ahead(self) -> int:
        """Bytes of messages that wait for the reader."""
        return self._ahead

    async def stop(self) -> None:
        """End the iterator and the connection; returns when it is closed. Stopping twice is harmless."""
        self._messages.clear()
        if self._ended is None:
            self._ended = StopAsyncIteration()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await running
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    # -- one connection after the other -------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Raises nothing: the reader gets it."""
        try:
            while True:
                why = await self._converse()
                if self._ended is not None:  # stopped while it dialled, which can look like a server that refuses
                    break
                await self._pause(why)
        except CancelledError:
            pass
        except MsgdError as error:
            self._ended = self._ended or error
        except Exception as error:  # a mistake of ours: whoever iterates is told, and does not wait for ever
            _log.failure("a mistake while watching {topics}", topics=self._topics)
            self._ended = self._ended or error
        self._wake()

    async def _converse(self) -> str:
        """Hold one connection to its end; why it has ended. Raises what ends the watching."""
        try:
            self._token = self._client.token
            connection = await dial(self._client.reactor, self._client.url, self._token, self._client.tls)
        except Unavailable as error:
            if not self._patient and not self._met:
                raise
            return error.message
        self._connection = connection
        try:
            connection.listen(self._opened, self._received)
            code, reason = await connection.ended()
        except CancelledError:
            connection.leave()
            await connection.ended()
            raise
        finally:
            self._connection = None
        return self._judged(code, reason)

    def _judged(self, code: int, reason: str) -> str:
        """Why a connection has ended, if there may be another one; else raises."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            if not refusal.retryable or not (self._patient or self._met):
                raise refusal
            if self._advised_s is None:
                self._advised_s = refusal.retry_after
            return refusal.message
        if code in (401, 4101):
            raise Unauthenticated(reason or "the server does not accept the token", where=self._client.url)
        if code in (403, 4103):
            raise Forbidden(reason or "the server does not allow it", where=self._client.url)
        if 4100 <= code < 4200:
            raise PeerError(f"{self._client.url} does not want us back: {code} {reason}", where=self._client.url)
        why = f"{self._client.url}: {reason or 'the connection was lost'}"
        if not self._patient and not self._met:
            raise Unavailable(why, where=self._client.url)
        return why

    async def _pause(self, why: str) -> None:
        """Wait before the next connection: for the reader, if it is behind; else for as long as is wise."""
        if self._ahead > AHEAD_BYTES // 2:
            self._room = Once()
            await self._room.wait()
            return
        advised_s, self._advised_s = self._advised_s, None
        ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._attempt, 16))
        wait_s = ceiling * self._jitter() if advised_s is None else advised_s
        self._attempt += 1
        self._status(f"{why}; next try in {wait_s:.1f} s")
        await sleep(self._client.reactor, wait_s)

    # -- one conversation ---------------------------------------------------------------------------------------------

    def _opened(self, connection: Connection) -> None:
        for ref, topic in enumerate(self._topics):
            since = self._since[topic]
            more = {} if since is None else {"since": since}
            connection.say({"op": "subscribe", "topic": topic, "ref": ref, **more})

    def _received(self, connection: Connection, payload: bytes) -> None:
        try:
            message = json.decode(payload, Message)
            self._take(connection, message, len(payload))
        except (MsgdError, KeyError, TypeError, ValueError):
            self._refuse(connection, PeerError(f"{self._client.url} does not speak msgd.v1", where=self._client.url))

    def _take(self, connection: Connection, message: Message, size: int) -> None:
        op = message["op"]
        if op == "error":
            self._refused(connection, message)
        elif op == "drain":
            self._advised_s = max(0.0, float(message["reconnect_in"]))
        elif op == "expiring":
            token, before = self._client.token, self._token
            if token != before:  # the same again would be as close to its end
                self._token = token
                connection.say({"op": "token", "token": token, "ref": TOKEN_REF})
        elif op in SHOWN and self._wanted(message):
            self._messages.append((message, size))
            self._ahead += size
            if self._ahead > AHEAD_BYTES:
                connection.hold(True)
            self._wake()

    def _wanted(self, message: Message) -> bool:
        """Move the cursor that ``message`` moves; whether the reader is to have it."""
        op, topic = message["op"], message["topic"]
        subscription = message.get("subscription") or topic
        if op == "subscribed":
            self._met = True
            self._attempt = 0
            self._status("connected")
            if self._since[topic] is None:
                self._since[topic] = message["cursor"]
        elif op == "event" and message["seq"] is not None:
            self._since[subscription] = message["cursor"]
        # What several subscriptions bring is taken from one of them; each has all of its topics' events, in order.
        first = topic if topic in self._since else next((one for one in self._topics if matches(one, topic)), "")
        return bool(subscription == first)

    def _refused(self, connection: Connection, message: Message) -> None:
        """An operation of ours was not accepted."""
        ref = message.get("ref")
        fields = {"code": message["code"], "detail": message["message"], "where": message.get("where", "")}
        refusal = error_of(400, json.encode(fields), message.get("retry_after"))
        if isinstance(ref, int) and 0 <= ref < len(self._topics):
            if not refusal.where or refusal.where == "topic":
                refusal.where = self._topics[ref]
            self._refuse(connection, refusal)
        elif not refusal.retryable:  # of a token: the connection would end with the old one
            self._refuse(connection, refusal)
        elif ref is None:  # of the connection, which is one too many just now
            self._advised_s = refusal.retry_after

    def _refuse(self, connection: Connection, error: MsgdError) -> None:
        """End this connection because of ``error``, and all if that does not pass."""
        if self._refusal is None:
            self._refusal = error
        connection.leave()
