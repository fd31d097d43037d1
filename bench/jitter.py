"""Bad weather: ``python -m bench.jitter [--quick]``, AnyCable's jitter profile over 1,000 clients.

120 messages are published, two a second. Every 15 s, each client at a moment of its own, a client's network is gone for
2 s: its connection breaks without a goodbye, and it comes back to whichever of two notifiers is next, with its cursor.
Printed: how many of the deliveries came, whether any came twice or out of order, and how long replayed messages took,
from the first packet of the new connection to the message. The exit status is 0 if every client had every message once
and in order. Daemons and settings are those of ``bench/_pushers.py``; the clients are plain sockets that know nothing
of msgd's own code. ``--quick`` is a smoke test of 20 clients and a few seconds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import statistics
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Final

import msgspec

from bench._crowd import Door, stamped
from bench._pushers import TOPIC, Msgd, servers

CLIENTS: Final = 1000
MESSAGES: Final = 120
PER_S: Final = 2
GONE_S: Final = 2.0
EVERY_S: Final = 15.0
GRACE_S: Final = 20.0
"""After the last message, for those who are away just then."""

OPENED_S: Final = 20.0
"""Over which the clients come for the first time."""


class _Event(msgspec.Struct):
    op: str
    seq: int | None = None
    cursor: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Event).decode


class Client:
    """One client, connected but for its bad moments."""

    def __init__(self, number: int, door: Door, start_s: float) -> None:
        self.seqs: list[int] = []
        self.gaps = 0
        self.replayed_ms: list[float] = []
        self.reconnects = 0
        self._number = number
        self._door = door
        self._cursor = "0"
        self._next_bad_s = start_s + EVERY_S * random.random()

    async def ride(self, until_s: float, expected: int) -> None:
        """Be there until all has come, or the time is over."""
        while len(self.seqs) < expected and time.monotonic() < until_s:
            bad_s = self._next_bad_s
            try:
                async with asyncio.timeout_at(min(bad_s, until_s)):
                    await self._connected(expected)
            except (TimeoutError, OSError, asyncio.IncompleteReadError):
                pass
            if time.monotonic() >= bad_s:
                self._next_bad_s += EVERY_S
                await asyncio.sleep(GONE_S)
            self.reconnects += 1

    async def _connected(self, expected: int) -> None:
        began_ns = time.monotonic_ns()
        port = self._door.ports[(self._number + self.reconnects) % len(self._door.ports)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(self._opening(port))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise OSError(head[:100])
            writer.write(_masked(0x81, self._subscribe()))
            while len(self.seqs) < expected:
                opcode, payload = await _frame(reader)
                if opcode == 0x9:
                    writer.write(_masked(0x8A, payload))
                elif opcode == 0x8:
                    return
                elif opcode == 0x1:
                    self._take(_decode(payload), began_ns)
        finally:
            writer.transport.abort()

    def _opening(self, port: int) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET {self._door.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nAuthorization: {self._door.authorization}\r\n"
            f"Sec-WebSocket-Protocol: {self._door.subprotocol}\r\n\r\n"
        ).encode()

    def _subscribe(self) -> bytes:
        return json.dumps({"op": "subscribe", "topic": TOPIC, "since": self._cursor}).encode()

    def _take(self, message: _Event, began_ns: int) -> None:
        if message.op == "gap":
            self.gaps += 1
        if message.op != "event" or message.seq is None:
            return
        self.seqs.append(message.seq)
        self._cursor = message.cursor
        if self.reconnects and int(bytes(message.data).split(b"@@")[1]) < began_ns:
            self.replayed_ms.append((time.monotonic_ns() - began_ns) / 1e6)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, size = await reader.readexactly(2)
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
    return first & 0x0F, await reader.readexactly(size)


def _masked(first: int, payload: bytes) -> bytes:
    """A frame of a client; masked with zeros, which leaves it readable (RFC 6455 §5.3 asks for unpredictable ones, for
    the sake of proxies that are not here)."""
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + struct.pack(">H", size)
    return head + bytes(4) + payload


async def _publish(pusher: Msgd, messages: int) -> None:
    begin_s = time.monotonic()
    for number in range(messages):
        await asyncio.sleep(max(0.0, begin_s + number / PER_S - time.monotonic()))
        await asyncio.to_thread(pusher.publish, iter([stamped(number)]))


async def weather(pusher: Msgd, clients: int, messages: int, opened_s: float) -> list[Client]:
    """The clients, after the bad weather."""
    door = pusher.door()
    start_s = time.monotonic()
    until_s = start_s + opened_s + messages / PER_S + GRACE_S
    crowd = [Client(number, door, start_s) for number in range(clients)]
    riding: list[asyncio.Task[None]] = []
    for number, client in enumerate(crowd):
        await asyncio.sleep(max(0.0, start_s + opened_s * number / clients - time.monotonic()))
        riding.append(asyncio.create_task(client.ride(until_s, messages)))
    await _publish(pusher, messages)
    await asyncio.gather(*riding)
    return crowd


def report(crowd: Sequence[Client], messages: int) -> bool:
    """Print the figures; whether all had everything once and in order."""
    wanted = list(range(1, messages + 1))
    whole = [client for client in crowd if client.seqs == wanted]
    came = sum(len(set(client.seqs)) for client in crowd)
    twice = sum(len(client.seqs) - len(set(client.seqs)) for client in crowd)
    misordered = sum(client.seqs != sorted(client.seqs) for client in crowd)
    replayed = sorted(ms for client in crowd for ms in client.replayed_ms)
    print(f"{len(crowd):,} clients, {messages} messages at {PER_S}/s, {GONE_S:g} s away every {EVERY_S:g} s")
    print(f"delivered   {came:,} of {len(crowd) * messages:,} ({100 * came / (len(crowd) * messages):.2f} %)")
    print(f"twice       {twice:,}")
    print(f"misordered  {misordered:,} clients")
    print(f"gaps        {sum(client.gaps for client in crowd):,}")
    print(f"reconnects  {sum(client.reconnects for client in crowd):,}")
    if replayed:
        p99 = replayed[min(len(replayed) - 1, len(replayed) * 99 // 100)]
        print(
            f"replayed    {len(replayed):,}: p50 {statistics.median(replayed):.0f} ms, p99 {p99:.0f} ms, "
            f"longest {replayed[-1]:.0f} ms"
        )
    return len(whole) == len(crowd)


def main() -> int:
    """0 if nobody missed anything."""
    quick = "--quick" in sys.argv
    clients, messages, opened_s = (20, 40, 1.0) if quick else (CLIENTS, MESSAGES, OPENED_S)
    with ExitStack() as stack:
        node, cluster = stack.enter_context(servers())
        pusher = stack.enter_context(closing(Msgd(node, cluster, notifiers=2)))
        crowd = asyncio.run(weather(pusher, clients, messages, opened_s))
    return 0 if report(crowd, messages) else 1


if __name__ == "__main__":
    sys.exit(main())
