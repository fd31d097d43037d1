"""A decoder that misbehaves, as the file that it is given says: hang, deaf, exit, nonsense."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import msgspec

from msgd.services.thumbnailer.frames import LENGTH, Order

if __name__ == "__main__":
    size = LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size))[0]
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(size), type=Order)
    what = Path(order.path).read_bytes()
    if what == b"exit":
        sys.exit(3)
    if what == b"nonsense":
        sys.stdout.buffer.write(b"\xff" * 100)
        sys.stdout.buffer.flush()
    if what != b"deaf":
        signal.alarm(order.seconds)
    while True:
        time.sleep(3600)
