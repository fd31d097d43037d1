"""What the story of hostile clients needs: a peer that sends whatever bytes it is told, and clients that behave."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase
from websockets.sync.client import connect

from msgd.notifier.auth.signing import make_token
from tests.stories.deployment import Deployment, embedded, logs_on_failure, until

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TOPIC: Final = "room.quiet"
PATIENCE_S: Final = 60.0
GROWTH_BYTES: Final = 48 * 1024 * 1024
"""By which the process may grow: what its allocator keeps of the largest burst, not what a leak of each peer adds."""


def frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, reserved: int = 0, masked: bool = True, says: int = -1
) -> bytes:
    """A frame (RFC 6455 §5.2). ``says``: the length that its header tells."""
    length = len(payload) if says < 0 else says
    flag = 0x80 if masked else 0
    if length < 126:
        head = bytes((flag | length,))
    elif length < 1 << 16:
        head = bytes((flag | 126,)) + length.to_bytes(2, "big")
    else:
        head = bytes((flag | 127,)) + length.to_bytes(8, "big")
    mask = b"\x5a\x00\xff\x31" if masked else b""
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else payload
    return bytes(((0x80 if fin else 0) | reserved << 4 | opcode,)) + head + mask + body


class Peer:
    """A TCP connection to the notifier that says what it is told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._rest = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Peer:
        """Send, as far as the other side still takes it."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def finish(self) -> Peer:
        """Send nothing more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self

    def say(self, op: str, **fields: Any) -> Peer:
        return self.send(frame(json.dumps({"op": op, **fields}).encode()))

    def request(self, *lines: str, method: str = "GET", path: str = "/ws", host: str = "") -> Peer:
        """Send the head of a request."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", *lines]
        return self.send("\r\n".join([*head, "", ""]).encode("latin-1"))

    def opening(self, token: str = "", *lines: str) -> Peer:
        """Send the head of a WebSocket's handshake."""
        key = base64.b64encode(os.urandom(16)).decode()
        bearer = (f"Authorization: Bearer {token}",) if token else ()
        return self.request(
            "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Protocol: msgd.v1", *bearer, *lines,
        )  # fmt: skip

    def open(self, token: str = "", *lines: str) -> Peer:
        """Make the handshake."""
        self.opening(token, *lines)
        status = self.status()
        assert status == 101, status
        return self

    # -- what comes back ----------------------------------------------------------------------------------------------

    def status(self) -> int:
        """The status of the answer whose head comes next; 0 if the connection ends instead."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return 0
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return int(head.split()[1])

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)

    def _frame(self) -> tuple[int, bytes] | None:
        while True:
            if len(self._rest) >= 2:
                length, at = self._rest[1] & 0x7F, 2
                if length > 125:
                    at = 4 if length == 126 else 10
                    length = int.from_bytes(self._rest[2:at], "big")
                if len(self._rest) >= at + length:
                    found = self._rest[0] & 0x0F, self._rest[at : at + length]
                    self._rest = self._rest[at + length :]
                    return found
            if not self._more():
                return None

    def message(self) -> dict[str, Any]:
        """The next message; {} if none comes any more. Pings before it are answered."""
        while (found := self._frame()) is not None:
            opcode, payload = found
            if opcode == TEXT:
                return dict(json.loads(payload))
            if opcode == PING:
                self.send(frame(payload, PONG))
            if opcode == CLOSE:
                break
        return {}

    def until(self, op: str) -> dict[str, Any]:
        """The next message of that op; {} if none comes any more."""
        while (message := self.message()) and message["op"] != op:
            pass
        return message

    def closed(self) -> int:
        """The code with which the other side closes; 0 if it just ends the connection."""
        while (found := self._frame()) is not None:
            if found[0] == CLOSE:
                return int.from_bytes(found[1][:2], "big")
        return 0

    def ended(self) -> bool:
        """Returns True when the other side has ended the connection, whatever it said before."""
        while self._more():
            self._rest = b""
        return True


class Watchers:
    """A WebSocket and an event stream that behave, on a topic that is published to all the while."""

    def __init__(self, made: Deployment, token: str) -> None:
        self._made = made
        self._token = token
        self._over = threading.Event()
        self.published = 0
        self.by_socket: list[int] = []
        self.by_stream: list[int] = []
        self._socket = connect(
            made.url.replace("http", "ws") + "/ws", subprotocols=["msgd.v1"],  # type: ignore[list-item]  # it wants a NewType of str
            additional_headers={"Authorization": f"Bearer {token}"}, max_size=None, proxy=None, open_timeout=60,
        )  # fmt: skip
        self._socket.send(json.dumps({"op": "subscribe", "topic": TOPIC}))
        while json.loads(self._socket.recv(PATIENCE_S))["op"] != "subscribed":
            pass
        self._connection = HTTPConnection("127.0.0.1", made.port, timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        self._connection.request("GET", f"/api/topics/{TOPIC}/events", headers=headers)
        self._wire = self._connection.sock
        self._stream = self._connection.getresponse()
        while not self._stream.readline().startswith(b"event: subscribed"):
            pass
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._publish, self._listen, self._read)
        ]
        for thread in self._threads:
            thread.start()
        until(lambda: self.by_socket and self.by_stream, "both hear what is published")

    def _publish(self) -> None:
        publisher = HTTPConnection("127.0.0.1", self._made.port, timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        while not self._over.wait(0.01):  # at most a hundred events a second
            number = self.published + 1
            body = json.dumps({"topic": TOPIC, "type": "said", "data": number, "id": str(number)})
            try:
                publisher.request("POST", "/api/events", body, headers)
                answer = publisher.getresponse()
                answer.read()
            except (ConnectionError, HTTPException):
                publisher.close()  # a connection that was idle for long: again, under the same id
                continue
            if answer.status != 202:
                break
            self.published = number
        publisher.close()

    def _listen(self) -> None:
        for message in self._socket:
            heard = json.loads(message)
            self.by_socket.append(heard["data"] if heard["op"] == "event" else -1)

    def _read(self) -> None:
        for line in self._stream:
            if line.startswith(b"data: "):
                heard = json.loads(line[6:])
                if heard["op"] != "subscribed":
                    self.by_stream.append(heard["data"] if heard["op"] == "event" else -1)

    def finish(self) -> None:
        """Publish no more; returns when both have all, else raises AssertionError."""
        assert self._threads[0].is_alive(), "publishing was refused"
        self._over.set()
        self._threads[0].join(PATIENCE_S)
        wanted = list(range(1, self.published + 1))
        assert wanted, "nothing could be published"
        until(lambda: len(self.by_socket) >= len(wanted), "the WebSocket has heard all", seconds=PATIENCE_S)
        until(lambda: len(self.by_stream) >= len(wanted), "the event stream has heard all", seconds=PATIENCE_S)
        assert self.by_socket == wanted, "the WebSocket has heard each once, in order"
        assert self.by_stream == wanted, "the event stream has heard each once, in order"
        self.leave()

    def leave(self) -> None:
        """Go away. Twice is harmless."""
        self._over.set()
        self._socket.close()
        with contextlib.suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._connection.close()


class HostileCase(SynchronousTestCase):
    """One notifier on the embedded defaults, on whose other clients nothing that the test does may have an effect."""

    more = ""

    def setUp(self) -> None:
        self.made = embedded(self, more=self.more, launcher=("-m", "tests.stories.impatient"))
        self.made.start()
        self.secret = (self.made.folder / "var" / "secret").read_bytes().strip()
        self.watchers = Watchers(self.made, self.token("watcher"))
        self.addCleanup(self.watchers.leave)
        self.sockets = self.count_sockets()
        self.resident = self.count_resident()

    def token(self, sub: str = "eve", *can: str, ttl_s: float = 600.0, now_s: float | None = None) -> str:
        return make_token(self.secret, sub=sub, can=can or ("admin:#",), ttl_s=ttl_s, now_s=now_s)

    def peer(self) -> Peer:
        made = Peer(self.made.port)
        self.addCleanup(made.close)
        return made

    def opened(self, *can: str) -> Peer:
        """A WebSocket whose client has been welcomed."""
        peer = self.peer().open(self.token("eve", *can))
        self.assertEqual(peer.message()["op"], "welcome")
        return peer

    def count_sockets(self) -> int:
        """How many sockets the process has open. (Of the database it opens more files as it needs them.)"""
        count = 0
        for file in Path(f"/proc/{self.made.pid('msgd')}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += os.readlink(file).startswith("socket:")
        return count

    def count_resident(self) -> int:
        """Bytes of memory that the process has."""
        pages = Path(f"/proc/{self.made.pid('msgd')}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def check_others(self) -> None:
        """The others missed nothing, and of the hostile nothing is left."""
        with logs_on_failure(self.made):
            until(lambda: self.count_sockets() <= self.sockets, "all that was opened is closed", seconds=PATIENCE_S)
            self.assertLess(self.count_resident() - self.resident, GROWTH_BYTES)
            self.watchers.finish()
            self.assertNotIn("Traceback", self.made.log("msgd"))
            self.assertNotIn("Unhandled", self.made.log("msgd"))
