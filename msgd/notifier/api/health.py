"""``/healthz``: the process answers. ``/readyz``: it can be sent requests."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.journal.interface import Journal
from msgd.notifier.feed import Feed
from msgd.notifier.interface import Answer, Call, Route, answer
from msgd.ops.health import Finding, Health


class HealthApi:
    """For load balancers and people; says nothing that a stranger should not know."""

    def __init__(self, broker: Broker, journal: Journal, feed: Feed, clock: Clock) -> None:
        self._broker = broker
        self._journal = journal
        self._feed = feed
        self._health = Health(clock)
        self._health.add("broker", self._check_broker)
        self._health.add("journal", self._check_journal)
        self._health.add("feed", self._check_feed)

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="GET", path="/healthz", endpoint=self.live, open=True, produces=()),
            Route(method="GET", path="/readyz", endpoint=self.ready, open=True, produces=()),
        )

    async def live(self, call: Call) -> Answer:
        return answer(self._health.live())

    async def ready(self, call: Call) -> Answer:
        """503 while something is missing; which, is told."""
        report = await self._health.ready()
        return answer(report, status=200 if report.ok else 503, headers={} if report.ok else {"retry-after": "2"})

    async def _check_broker(self) -> Finding:
        return Finding(True) if self._broker.accepting else Finding(False, "the broker takes no messages")

    async def _check_journal(self) -> Finding:
        await self._journal.head()
        return Finding(True)

    async def _check_feed(self) -> Finding:
        return Finding(True) if self._feed.is_open else Finding(False, "live messages are not heard yet")
