"""A client that stops reading while a million events pass costs nothing, and misses nothing (DESIGN §3)."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

EVENTS: Final = 1_000_000
ROOT: Final = Path(__file__).parents[2]
WARM: Final = 50_000  # read late too, so that caches, pools and rings have their size
GROWTH_BYTES: Final = 10 * 1024 * 1024
SEQ: Final = re.compile(rb'"op":"event","topic":"room.a","seq":(\d+),"cursor":"([^"]+)"')


class Child:
    """The notifier's process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stories.slow_notifier"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.greeting = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the notifier ended: {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def publish(self, count: int) -> int:
        """Returns when so many events have been published; how many bytes are resident then."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"publish": count}).encode() + b"\n")
        self.process.stdin.flush()
        return int(self.answer()["resident"])

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class Reader:
    """A WebSocket client that reads when it is told to; one that was cut off meanwhile comes back with its cursor."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._cursor: str | None = None
        self.next_seq = 1
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.settimeout(60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: msgd.v1\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )
        self._rest = b""
        self._until(b'"welcome"')
        since = {} if self._cursor is None else {"since": self._cursor}
        payload = json.dumps({"op": "subscribe", "topic": "room.a", **since}).encode()
        self._socket.sendall(bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload)
        self._until(b'"subscribed"')

    def _until(self, wanted: bytes) -> None:
        while wanted not in self._rest:
            self._rest += self._socket.recv(65536)

    def read(self, upto: int) -> None:
        """Read all events up to this seq: each must be the next one."""
        while self.next_seq <= upto:
            try:
                data = self._socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                self.close()
                self._connect()
            data = self._rest + data
            end = 0
            for found in SEQ.finditer(data):
                if int(found[1]) != self.next_seq:
                    raise AssertionError(f"{int(found[1])} came instead of {self.next_seq}")
                self.next_seq += 1
                self._cursor = found[2].decode()
                end = found.end()
            self._rest = data[max(end, len(data) - 128) :]

    def close(self) -> None:
        self._socket.close()


class SlowReaderTest(SynchronousTestCase):
    """In processes of their own, over a real socket."""

    def test_a_million_events(self) -> None:
        """While it does not read, the notifier grows by less than 10 MB; then it gets all of them, in order, and goes
        on live."""
        child = Child()
        self.addCleanup(child.end)
        reader = Reader(child.greeting["port"], child.greeting["token"])
        self.addCleanup(reader.close)
        child.publish(WARM)
        reader.read(WARM)
        before = child.publish(0)
        after = child.publish(EVENTS)
        self.assertLess(after - before, GROWTH_BYTES)
        reader.read(WARM + EVENTS)
        caught_up = child.publish(1)
        reader.read(WARM + EVENTS + 1)
        self.assertLess(caught_up - before, GROWTH_BYTES)
