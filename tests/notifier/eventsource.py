"""The other side of an event stream: the HTML standard's parser, written from its text, and a client for tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.notifier.world import reactor, token


class Interpreter:
    """§9.2.6, step by step: bytes in, ``(type, data, last event id)`` out."""

    def __init__(self) -> None:
        self._bytes = b""
        self._begun = False
        self._data = ""
        self._type = ""
        self._id = ""
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self.comments = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, str, str]]:
        """What is complete by now."""
        self._bytes += data
        if not self._begun:
            if len(self._bytes) < 3:
                return
            self._begun = True
            self._bytes = self._bytes.removeprefix(b"\xef\xbb\xbf")
        while (line := self._line()) is not None:
            if line == "":
                yield from self._dispatch()
            elif line.startswith(":"):
                self.comments += 1
            else:
                name, colon, value = line.partition(":")
                self._field(name, value.removeprefix(" ") if colon else "")

    def _line(self) -> str | None:
        ends = [at for at in (self._bytes.find(b"\r"), self._bytes.find(b"\n")) if at >= 0]
        if not ends:
            return None
        at = min(ends)
        if self._bytes[at : at + 1] == b"\r" and at + 1 == len(self._bytes):
            return None  # a line feed may follow
        size = 2 if self._bytes[at : at + 2] == b"\r\n" else 1
        line, self._bytes = self._bytes[:at], self._bytes[at + size :]
        return line.decode("utf-8", "replace")

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)

    def _dispatch(self) -> Iterator[tuple[str, str, str]]:
        self.last_event_id = self._id
        data, self._data = self._data, ""
        type_, self._type = self._type, ""
        if data:
            yield type_ or "message", data.removesuffix("\n"), self.last_event_id


class EventSource(Protocol):
    """A client that shows what comes. HTTP/1.0, so that nothing is chunked and the end is the end of the stream."""

    transport: Any

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.heard: list[tuple[str, Any, str]] = []
        self.interpreter = Interpreter()
        self.body = b""
        self._head = b""
        self._unread: deque[tuple[str, Any, str]] = deque()
        self._waiting: Deferred[None] | None = None
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        if not self.status:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            self.status = int(first.split(" ")[1])
            self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body += data
        if self.status == 200:
            for type_, text, last in self.interpreter.feed(data):
                self.heard.append((type_, msgspec.json.decode(text), last))
                self._unread.append(self.heard[-1])
        self._wake()

    def connectionLost(self, reason: object = None) -> None:
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Returns when it is so; looked at whenever something comes."""
        while not reached():
            if self.ended:
                raise AssertionError(f"the stream has ended; it had said {self.status} {self.body[-300:]!r}")
            await self.more()

    async def more(self) -> None:
        """Returns when something comes, or the connection ends."""
        self._waiting = Deferred()
        await self._waiting

    async def next(self, type_: str) -> tuple[Any, str]:
        """The data of the next event of a type, and the client's place after it; those before it are skipped."""
        while True:
            while self._unread:
                found, data, last = self._unread.popleft()
                if found == type_:
                    return data, last
            await self.until(lambda: bool(self._unread))

    async def events(self, count: int) -> list[Any]:
        """The next so many unnamed events."""
        return [(await self.next("message"))[0] for _ in range(count)]

    async def end(self) -> None:
        """Returns when the server has ended the stream."""
        while not self.ended:
            await self.more()

    def close(self) -> None:
        """Go away without a word."""
        self.transport.abortConnection()


async def listen(
    port: int, path: str, *, who: str = "", headers: dict[str, str] | None = None, method: str = "GET"
) -> EventSource:
    """Open a stream; returns when its head has come, or the connection has ended without one."""
    factory: Any = Factory.forProtocol(EventSource)
    source: EventSource = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
    given = {"Accept": "text/event-stream", "Authorization": f"Bearer {who or token()}", **(headers or {})}
    lines = [f"{method} {path} HTTP/1.0", "Host: localhost", *(f"{name}: {value}" for name, value in given.items())]
    source.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    while not source.status and not source.ended:
        await source.more()
    return source
