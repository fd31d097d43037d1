"""Runs ``bench/_load.c``: a crowd of WebSocket clients in one process.

It is light enough to share two processors with the servers that it measures. It is compiled with ``cc -O2`` into a
temporary folder, once in a run.
"""

from __future__ import annotations

import atexit
import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

SOURCE: Final = Path(__file__).with_name("_load.c")
OPEN_FILES: Final = 65_536
"""Of this process and of all that it starts: ten thousand connections, and a server's own files."""

INSTALL: Final = "This needs a C compiler. On Debian or Ubuntu: apt-get install gcc libc6-dev"


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """Where a crowd connects, and what each of it says first."""

    ports: Sequence[int]  # connections are dealt to them in turn
    path: str
    subprotocol: str = ""
    authorization: str = ""
    opening: Sequence[str] = ()  # text messages; the second is sent when the first is answered
    ready: str = ""  # what the message holds that ends the opening
    nul: bool = False  # each opening message ends with a NUL, as STOMP wants it


class Standing(msgspec.Struct, frozen=True):
    """All connections stand."""

    connections: int
    handshake_s: float


class Figures(msgspec.Struct, frozen=True):
    """What the crowd was sent. Latencies are from a message's stamp to the ``read`` that brought it."""

    connections: int
    deliveries: int
    least: int  # deliveries of the connection that had fewest
    most: int
    misordered: int  # deliveries that came after a later one of their connection, or twice
    skipped: int  # numbers that a connection was not sent when the next ones were
    closed: int
    seconds: float  # from the first stamp to the last delivery
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    complete: int  # connections that had all deliveries they waited for
    complete_s: float  # from the first connect to the last delivery
    complete_p50_ms: float  # from a connection's own connect to its last delivery
    complete_p99_ms: float
    complete_max_ms: float

    @property
    def whole(self) -> bool:
        """Every connection had every message once, in order."""
        return self.complete == self.connections and not (self.misordered or self.skipped)


class CrowdFailed(Exception):
    """The crowd was refused, or ended early; the message ends with what it said."""


def stamped(number: int, size: int = 200) -> bytes:
    """A JSON object of so many bytes, stamped with the time of the call: message ``number`` of a run."""
    head = b'{"at":"@@%d@@%d@@","fill":"' % (time.monotonic_ns(), number)
    return head + b"x" * (size - len(head) - 2) + b'"}'


def raise_limit() -> None:
    """Let this process, and all that it starts from now on, open :data:`OPEN_FILES` files, or as many as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, OPEN_FILES), max(hard, OPEN_FILES)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@lru_cache(maxsize=1)
def _program() -> str:
    """The compiled program. Raises CrowdFailed."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CrowdFailed(INSTALL)
    folder = tempfile.mkdtemp(prefix="msgd-bench-load-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = subprocess.run(
        [compiler, "-O2", "-o", f"{folder}/load", str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CrowdFailed(f"{INSTALL}\n{done.stderr}")
    return f"{folder}/load"


class Crowd:
    """So many clients at a door, in a process of their own, which ends when this ``with`` block does."""

    def __init__(self, door: Door, count: int, *, each: int = 0, seconds: float = 60.0) -> None:
        """``each``: the deliveries that each connection waits for (0: until told to end); ``seconds``: it waits no
        longer, from now on."""
        arguments = ["-n", str(count), "-u", door.path, "-t", str(seconds), "-e", str(each)]
        arguments += [part for port in door.ports for part in ("-p", str(port))]
        arguments += [part for message in door.opening for part in ("-m", message)]
        for option, value in (("-s", door.subprotocol), ("-a", door.authorization), ("-r", door.ready)):
            arguments += [option, value] if value else []
        arguments += ["-0"] if door.nul else []
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the crowd
        self._process = subprocess.Popen(
            [_program(), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._output, text=True
        )

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._output):
            assert pipe is not None
            pipe.close()

    def standing(self) -> Standing:
        """Returns when all are connected and have what they wait for to begin. Raises CrowdFailed."""
        return msgspec.convert(self._line(), Standing)

    def figures(self) -> Figures:
        """Returns when all have had their deliveries, or the time is over. Raises CrowdFailed."""
        return msgspec.convert(self._line(), Figures)

    def end(self) -> Figures:
        """Wait no longer; what came until now."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.figures()

    def _line(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._output.seek(0)
            raise CrowdFailed(f"the crowd ended with {self._process.returncode}: {self._output.read()[-3000:]}")
        return json.loads(line)
