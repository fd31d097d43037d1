"""Tell systemd how this process is: ready, stopping, alive (sd_notify(3), systemd.service(5) ``Type=notify``).

Without systemd (no ``NOTIFY_SOCKET``) everything here does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from msgd.clock import Clock

_log = Logger()

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
PID_VARIABLE: Final = "WATCHDOG_PID"

BEATS: Final = 2
"""Beats within one watchdog interval: sd_watchdog_enabled(3) recommends half the interval, so that one may be late."""


class Systemd:
    """The line to systemd. Calls never raise and never wait: health reports must not hurt the healthy.

    The watchdog beats from the reactor, so a blocked reactor is noticed; ``alive`` returning False withholds the beat,
    and systemd restarts the process.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        clock: Clock,
        *,
        alive: Callable[[], bool] = lambda: True,
        pid: int | None = None,
    ) -> None:
        """``environ``: where systemd says how to reach it; ``pid``: this process's, once it has daemonized."""
        self._address = _address(environ.get(SOCKET_VARIABLE, ""))
        self._interval_s = _watchdog_s(environ, os.getpid() if pid is None else pid)
        self._clock = clock
        self._alive = alive
        self._beat: LoopingCall | None = None
        self._warned = False

    @property
    def present(self) -> bool:
        """Whether systemd wants to hear from this process."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """All parts have started: units ordered after this one may start. The watchdog begins to beat."""
        self._send("READY=1", f"STATUS={status or 'ready'}")
        if self.present and self._interval_s is not None and self._beat is None:
            self._beat = LoopingCall(self._watchdog)
            self._beat.clock = self._clock  # type: ignore[assignment]  # a Clock is an IReactorTime
            self._beat.start(self._interval_s / BEATS)

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The drain begins. The watchdog goes on beating until :meth:`stopped`: a drain may take longer than it."""
        self._send("STOPPING=1", "STATUS=draining")

    def stopped(self) -> None:
        """End the watchdog's beat. Harmless when it never began."""
        if self._beat is not None and self._beat.running:
            self._beat.stop()
        self._beat = None

    def _watchdog(self) -> None:
        if self._alive():
            self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        # One line an assignment: a line break in a status would begin another.
        text = "\n".join(assignment.replace("\n", " ") for assignment in assignments)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.warn("systemd is not told any more: {error}", error=error)


def _address(text: str) -> str | None:
    """The socket's address: a path, or a name in the abstract namespace, written with an ``@`` for its NUL byte."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """The watchdog's interval in seconds; None if there is none, or if it is meant for another process."""
    given, whose = environ.get(WATCHDOG_VARIABLE, ""), environ.get(PID_VARIABLE, "")
    if not given.isdecimal() or int(given) == 0 or (whose and whose != str(pid)):
        return None
    return int(given) / 1_000_000
