"""A notifier with the routes of webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.notifier.interface import Orders, Route
from msgd.services.messenger.webhooks.api import WebhooksApi
from msgd.services.messenger.webhooks.store import suspend
from tests.notifier.world import World


class WebhookWorld(World):
    """A notifier with the routes of webhooks."""

    def __init__(self) -> None:
        super().__init__(mounts=[self._routes], suspend=[suspend])

    def _routes(self, orders: Orders) -> Sequence[Route]:
        return WebhooksApi(
            orders, database=self.database, jobs=self.jobs, journal=self.journal, now_ms=self.now_ms
        ).routes()
