"""Open ports."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from msgd.app.listening import BACKLOG, Listening


class BacklogTest(SynchronousTestCase):
    """How many may wait to be accepted."""

    def test_room_for_a_herd(self) -> None:
        """Thousands, unless the description says otherwise."""
        reactor = MemoryReactorClock()
        listening = Listening(
            reactor,
            [
                "tcp:8080:interface=127.0.0.1",
                "tcp6:8081:interface=\\:\\:1",
                "tcp:8082:backlog=7",
                "unix:/run/msgd.socket:mode=660",
            ],
            Factory(),
        )
        self.successResultOf(Deferred.fromCoroutine(listening.start()))
        self.assertEqual([server[2] for server in reactor.tcpServers], [BACKLOG, BACKLOG, 7])
        self.assertEqual([server[2] for server in reactor.unixServers], [BACKLOG])

    def test_told(self) -> None:
        """Where it listens is told as a browser takes it, where there is such an address."""
        listening = Listening(
            MemoryReactorClock(), ["tcp:8080:interface=127.0.0.1", "unix:/run/msgd.socket"], Factory()
        )
        with capturedLogs() as logged:
            self.successResultOf(Deferred.fromCoroutine(listening.start()))
        told = [formatEvent(event) for event in logged if event.get("log_namespace") == "msgd.app.listening"]
        self.assertEqual(
            told,
            [
                "listening on http://127.0.0.1:8080 (tcp:8080:interface=127.0.0.1)",
                "listening on unix:/run/msgd.socket",
            ],
        )
