"""Brokers on a real node, an observer that can be waited for, and the log."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from msgd.broker import topology
from msgd.broker.amqp import AmqpBroker
from tests.contract.broker_base import Watcher

QUEUE = topology.job_queues("crawl").new.name


class Teller(Watcher):
    """An observer that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, Deferred[None]]] = []

    def hear(self, what: str) -> Deferred[None]:
        """Fires when told ``what`` next."""
        heard: Deferred[None] = Deferred()
        self._waiting.append((what, heard))
        return heard

    def _tell(self, what: str) -> None:
        for one in [each for each in self._waiting if each[0] == what]:
            self._waiting.remove(one)
            one[1].callback(None)

    def connected(self) -> None:
        super().connected()
        self._tell("connected")

    def disconnected(self, reason: str) -> None:
        super().disconnected(reason)
        self._tell("disconnected")

    def blocked(self, reason: str) -> None:
        super().blocked(reason)
        self._tell("blocked")

    def unblocked(self) -> None:
        super().unblocked()
        self._tell("unblocked")


class NodeCase(TestCase):
    """Brokers, and the log."""

    timeout = 180

    def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def log_text(self) -> str:
        """All that was logged, as text."""
        return "\n".join(
            event["log_format"].format_map(_Fields(event)) for event in self.logged if event.get("log_format")
        )

    def make(self, *urls: str) -> tuple[AmqpBroker, Teller]:
        """A broker, stopped when the test ends, and its observer."""
        broker = AmqpBroker(reactor, urls, name="tests", jitter=lambda: 0.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        teller = Teller()
        broker.observe(teller)
        return broker, teller

    async def opened(self, *urls: str) -> tuple[AmqpBroker, Teller]:
        """Such a broker, started."""
        broker, teller = self.make(*urls)
        await broker.start()
        await broker.declare_type("crawl")
        return broker, teller


class _Fields(dict[str, Any]):
    """An event's fields; those that cannot be had as such stay in their braces."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"


def nothing() -> None:
    """Nothing was lost that this test would miss."""
