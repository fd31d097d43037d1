"""``/api/webhooks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import asdict

from msgd.jobs.interface import Jobs
from msgd.journal.interface import Journal
from msgd.messages.ids import IdMaker, new_id
from msgd.messages.topics import job_topic
from msgd.notifier.interface import Answer, Call, Orders, Route, answer
from msgd.services.messenger import owned
from msgd.services.messenger.webhooks import store
from msgd.services.messenger.webhooks.commands import Endpoints
from msgd.services.messenger.webhooks.endpoints import (
    DELIVERIES_KEPT,
    Endpoint,
    EndpointChange,
    NewEndpoint,
    Rotation,
    delivery_view,
    view,
)
from msgd.services.messenger.webhooks.params import WEBHOOK
from msgd.services.messenger.webhooks.replay import Replay, Replaying, checked_topics
from msgd.services.messenger.webhooks.sealing import Seal


class WebhooksApi:
    """Endpoints: list, create, show, change, delete, rotate their secret, try out, what was sent, replay."""

    def __init__(
        self,
        orders: Orders,
        *,
        database: store.Database,
        jobs: Jobs,
        journal: Journal,
        now_ms: Callable[[], int],
        seal: Seal = Seal(),  # noqa: B008  # immutable
        new_id: IdMaker = new_id,
    ) -> None:
        self._orders = orders
        self._endpoints = Endpoints(database, jobs, seal, now_ms=now_ms, new_id=new_id)
        self._replaying = Replaying(journal, jobs)
        self._now_ms = now_ms

    def routes(self) -> Sequence[Route]:
        one = "/api/webhooks/{id}"
        return (
            Route(method="GET", path="/api/webhooks", endpoint=self.list),
            Route(method="POST", path="/api/webhooks", endpoint=self.create),
            Route(method="GET", path=one, endpoint=self.show),
            Route(method="PUT", path=one, endpoint=self.change),
            Route(method="DELETE", path=one, endpoint=self.delete),
            Route(method="POST", path=f"{one}/rotate", endpoint=self.rotate),
            Route(method="POST", path=f"{one}/ping", endpoint=self.ping),
            Route(method="POST", path=f"{one}/replay", endpoint=self.replay),
            Route(method="GET", path=f"{one}/deliveries", endpoint=self.deliveries),
        )

    async def list(self, call: Call) -> Answer:
        """A page of endpoints."""
        return await owned.page(call, self._endpoints.page, self._view, "webhooks")

    async def create(self, call: Call) -> Answer:
        """A new endpoint: its secret is told here, and never again."""
        endpoint, secret = await self._endpoints.create(call.principal, call.json(NewEndpoint))
        told = {**self._view(endpoint), "secret": secret}
        return answer(told, status=201, headers={"location": f"/api/webhooks/{endpoint.id}"})

    async def show(self, call: Call) -> Answer:
        """One endpoint."""
        return answer(self._view(await self._endpoints.show(call.principal, call.words["id"])))

    async def change(self, call: Call) -> Answer:
        """Change, disable or enable an endpoint; the answer shows it."""
        changed = await self._endpoints.change(call.principal, call.words["id"], call.json(EndpointChange))
        return answer(self._view(changed))

    async def delete(self, call: Call) -> Answer:
        """Delete an endpoint."""
        await self._endpoints.remove(call.principal, call.words["id"])
        return Answer(status=204, content_type="")

    async def rotate(self, call: Call) -> Answer:
        """A new secret, told here and never again."""
        asked = call.json(Rotation) if call.body else Rotation()
        endpoint, secret = await self._endpoints.rotate(call.principal, call.words["id"], asked.overlap)
        return answer({**self._view(endpoint), "secret": secret})

    async def ping(self, call: Call) -> Answer:
        """Submit a job that tries the endpoint out."""
        self._orders.check_submit(call.principal, WEBHOOK.name)
        job = await self._endpoints.ping(call.principal, call.words["id"])
        return answer({"id": job.id, "topic": job_topic(job.id), "state": job.state}, status=202)

    async def replay(self, call: Call) -> Answer:
        """Submit jobs for journaled events."""
        self._orders.check_submit(call.principal, WEBHOOK.name)
        asked = call.json(Replay)
        topics = checked_topics(call.principal, asked.topics)
        endpoint = await self._endpoints.usable(call.principal, call.words["id"])
        return answer(asdict(await self._replaying.replay(endpoint, topics, asked)), status=202)

    async def deliveries(self, call: Call) -> Answer:
        """The last tries, the newest first."""
        limit = int(call.number("limit", owned.PAGE_DEFAULT, least=1, most=DELIVERIES_KEPT))
        found = await self._endpoints.deliveries(call.principal, call.words["id"], limit)
        return answer({"deliveries": [delivery_view(delivery) for delivery in found]})

    def _view(self, endpoint: Endpoint) -> dict[str, Any]:
        return view(endpoint, self._now_ms())
