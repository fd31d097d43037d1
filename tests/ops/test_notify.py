"""The line to systemd, against a socket as systemd has one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.ops.notify import Systemd


class SystemdTest(SynchronousTestCase):
    """What systemd hears."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.alive = True
        # The path of a Unix socket has 107 bytes at most, which trial's folder may exceed: relative, it fits.
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.line.close)
        self.line.bind(f"\0msgd-test-{os.getpid()}-{id(self)}")
        self.line.setblocking(False)
        name = self.line.getsockname().decode().replace("\0", "@", 1)
        self.environ = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "77"}

    def systemd(self, pid: int = 77) -> Systemd:
        return Systemd(self.environ, self.clock, alive=lambda: self.alive, pid=pid)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.line.recv(4096).decode())
            except BlockingIOError:
                return messages

    def test_life(self) -> None:
        """Ready, a beat every half interval, stopping; beats go on through the drain and end with it."""
        systemd = self.systemd()
        systemd.ready("serving on tcp:8080")
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=serving on tcp:8080", "WATCHDOG=1"])
        self.clock.pump([5.0] * 4)
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 2)
        systemd.stopping()
        self.clock.advance(10)
        self.assertEqual(self.heard(), ["STOPPING=1\nSTATUS=draining", "WATCHDOG=1"])
        systemd.stopped()
        systemd.stopped()
        self.clock.advance(100)
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_sick_process_withholds_the_beat(self) -> None:
        """A process that knows itself to be sick lets the watchdog bite."""
        systemd = self.systemd()
        systemd.ready()
        self.alive = False
        self.heard()
        self.clock.pump([10.0] * 3)
        self.assertEqual(self.heard(), [])
        systemd.stopped()

    def test_ready_twice_beats_once(self) -> None:
        """Whoever says ready twice does not beat twice."""
        systemd = self.systemd()
        systemd.ready()
        systemd.ready()
        self.heard()
        self.clock.advance(10)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])

    def test_watchdog_of_another_process(self) -> None:
        """A watchdog meant for another process, such as our parent, is not ours to feed."""
        self.systemd(pid=78).ready()
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=ready"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_status_is_one_line(self) -> None:
        """No status can pose as another assignment."""
        self.systemd().status("busy\nMAINPID=1")
        self.assertEqual(self.heard(), ["STATUS=busy MAINPID=1"])

    def test_no_systemd(self) -> None:
        """Without systemd nothing happens, whatever its variables hold."""
        for value in ("", "relative", "vsock:2:1"):
            systemd = Systemd({"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "x"}, self.clock)
            self.assertFalse(systemd.present)
            systemd.ready()
            systemd.stopping()
            systemd.stopped()
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))

    def test_socket_that_went(self) -> None:
        """A socket that is gone is logged once, and hurts nobody."""
        systemd = Systemd({"NOTIFY_SOCKET": str(Path("/nowhere/notify"))}, self.clock)
        systemd.ready()
        systemd.stopping()
