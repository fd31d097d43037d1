"""A notifier with the routes of rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgd.database import Transaction
from msgd.notifier.interface import Orders, Route
from msgd.services.messenger.rules.api import RulesApi
from msgd.services.messenger.rules.following import RulesFollower
from msgd.services.messenger.rules.store import suspend
from tests.notifier.world import World, reactor
from tests.services.messenger.rules.following import TYPES

RULE: dict[str, Any] = {
    "name": "Invoices",
    "topics": ["app.invoice.*"],
    "action": "webhook",
    "to": ["https://a.example/hook"],
}


def nobody(transaction: Transaction, topics: Collection[str]) -> Mapping[str, Collection[str]]:
    """No room is private."""
    return {}


class RulesWorld(World):
    """A notifier with the routes of rules, and a follower of them, which the test starts."""

    def __init__(self) -> None:
        super().__init__(mounts=[self._routes], suspend=[suspend])
        self.follower = RulesFollower(
            database=self.database,
            journal=self.journal,
            jobs=self.jobs,
            broker=self.broker,
            readers=nobody,
            reactor=reactor,
        )

    def _routes(self, orders: Orders) -> Sequence[Route]:
        return RulesApi(
            database=self.database,
            journal=self.journal,
            types=TYPES,
            readers=nobody,
            reactor=reactor,
            now_ms=self.now_ms,
        ).routes()

    async def stop(self) -> None:
        await self.follower.stop()
        await super().stop()
