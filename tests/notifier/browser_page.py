"""A page in a real Chromium that uses ``/msgd.js``, and a gate before the server that lets some things through."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from selenium.webdriver import Chrome
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from tests.servers.chromium import Chromium

reactor: Any = _reactor

_ASYNC: Final = """
const done = arguments[arguments.length - 1];
(async (...given) => { %s })(...arguments).then(
  (value) => done({ value }), (error) => done({ code: error.code ?? "", error: String(error.stack ?? error) }));
"""

_BEGIN: Final = """
const { Connection } = await import("/msgd.js");
const options = given[0];
Object.assign(window, { seen: [], gaps: [], errors: [], ready: [], statuses: [] });
if (options.storage) options.storage = window[options.storage];
if (options.tokens) {
  window.tokens = options.tokens;
  options.token = () => { if (!tokens.length) throw new Error("no more tokens"); return tokens.shift(); };
  delete options.tokens;
}
window.msgd = new Connection(options);
msgd.addEventListener("status", (event) => statuses.push(event.detail));
window.watch = (topic, more = {}) => msgd.subscribe(topic, {
  since: "0", onEvent: (event) => seen.push(event.data), onGap: (gap) => gaps.push(gap),
  onReady: (cursor) => ready.push(cursor), onError: (error) => errors.push(error.code), ...more });
"""


class Refused(Exception):
    """What a script in the page threw; ``code`` is that of a MsgdError."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Page:
    """One tab of a browser, at the server's origin, with a connection in ``window.msgd``."""

    def __init__(self, chromium: Chromium, url: str, window: str = "") -> None:
        self.chromium = chromium
        self._url = url
        self._window = window

    async def begin(self, **options: Any) -> Page:
        """Open the page and make its connection; ``tokens``: what its token function gives, one after the other."""
        if not self._window:
            self._window = await self.chromium.run(lambda driver: driver.current_window_handle)
        await self._here(lambda driver: driver.get(f"{self._url}/healthz"))  # a page that does nothing by itself
        await self.run(_BEGIN, options)
        return self

    async def another(self) -> Page:
        """A new tab of the same browser."""

        def open_tab(driver: Chrome) -> str:
            driver.switch_to.new_window("tab")
            return str(driver.current_window_handle)

        return Page(self.chromium, self._url, await self.chromium.run(open_tab))

    async def close(self) -> None:
        """Close the tab."""
        await self._here(lambda driver: driver.close())

    async def run(self, script: str, *given: Any) -> Any:
        """What an async function of this body returns; ``given`` are its arguments. Raises Refused."""
        found = await self._here(lambda driver: driver.execute_async_script(_ASYNC % script, *given))
        if "error" in found:
            raise Refused(found["code"], found["error"])
        return found.get("value")

    async def until(self, condition: str, what: str = "") -> Any:
        """The first true value of an expression."""

        def look(driver: Chrome) -> Any:
            driver.switch_to.window(self._window)
            return driver.execute_script(f"return {condition}")

        return await self.chromium.wait(look, what or condition)

    async def until_seen(self, values: Sequence[Any]) -> None:
        """Wait for the last of these, then hold all that came against them: in order, none twice."""
        await self.until(f"seen.includes({msgspec.json.encode(values[-1]).decode()})", f"the event {values[-1]}")
        seen = await self.run("return seen")
        if seen != list(values):
            raise AssertionError(f"seen {seen!r}, not {list(values)!r}")

    async def _here(self, work: Any) -> Any:
        def there(driver: Chrome) -> Any:
            driver.switch_to.window(self._window)
            return work(driver)

        return await self.chromium.run(there)


class Gate:
    """A TCP proxy on loopback. What it sees of requests decides what passes."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.blocked: Mapping[str, re.Pattern[bytes]] = {}
        self.held: Mapping[str, re.Pattern[bytes]] = {}
        self.muted = False  # nothing of what the server says passes
        self.sockets = 0  # handshakes of WebSockets that passed
        self._open: set[_Inner] = set()
        self._port: Any = None

    def start(self) -> str:
        """Listen; the URL."""
        factory = Factory.forProtocol(_Inner)
        factory.gate = self  # type: ignore[attr-defined]  # where its protocols find it
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        return f"http://127.0.0.1:{self._port.getHost().port}"

    async def stop(self) -> None:
        self.cut()
        await self._port.stopListening()

    def block(self, *names: str) -> None:
        """Cut connections that ask for a ``socket``, a ``stream`` or a ``poll``; nothing named: let all pass."""
        self.blocked = {name: _KINDS[name] for name in names}
        self.cut()

    def hold_back(self, *names: str) -> None:
        """Swallow such requests, and say nothing, as a proxy does that waits for an answer's end."""
        self.held = {name: _KINDS[name] for name in names}

    def cut(self) -> None:
        """Cut all connections."""
        for one in list(self._open):
            one.transport.abortConnection()

    def passes(self, data: bytes) -> bool:
        """Whether what a client sends may go on."""
        if any(kind.search(data) for kind in self.blocked.values()):
            return False
        self.sockets += bool(_KINDS["socket"].search(data))
        return True


_KINDS: Final[Mapping[str, re.Pattern[bytes]]] = {
    "socket": re.compile(rb"^GET /ws[ ?]", re.MULTILINE),
    "stream": re.compile(rb"^accept: text/event-stream", re.IGNORECASE | re.MULTILINE),
    "poll": re.compile(rb"^GET /api/events\?[^ ]*wait=", re.MULTILINE),
}


class _Inner(Protocol):
    """The client's side of one connection."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.factory.gate._open.add(self)
        self._outer: _Outer | None = None
        self._early: list[bytes] = []
        connecting = connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.factory.gate.target), _Outer(self))
        connecting.addCallbacks(self._connected, lambda _: self.transport.abortConnection())

    def _connected(self, outer: _Outer) -> None:
        self._outer = outer
        if self not in self.factory.gate._open:
            outer.transport.abortConnection()
        for data in self._early:
            outer.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        if not self.factory.gate.passes(data):
            self.transport.abortConnection()
        elif any(kind.search(data) for kind in self.factory.gate.held.values()):
            pass
        elif self._outer is None:
            self._early.append(data)
        else:
            self._outer.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.gate._open.discard(self)
        if self._outer is not None:
            self._outer.transport.abortConnection()


class _Outer(Protocol):
    """The server's side of one connection."""

    transport: Any

    def __init__(self, inner: _Inner) -> None:
        self._inner = inner

    def dataReceived(self, data: bytes) -> None:
        if not self._inner.factory.gate.muted:
            self._inner.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self._inner.transport.loseConnection()
