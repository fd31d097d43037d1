"""Webhooks to endpoints: signed, counted, disabled when they fail for good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import select
from standardwebhooks import Webhook
from twisted.web.server import NOT_DONE_YET

from msgd.jobs.interface import State
from msgd.jobs.tables import outbox
from msgd.messages.envelope import from_bytes
from msgd.services.messenger.webhooks import store
from msgd.services.messenger.webhooks.endpoints import Delivery, Endpoint
from msgd.services.messenger.webhooks.signing import new_secret
from tests.services.messenger.webhooks.receiving import WebhookCase, status

DAY_S = 86_400.0


class EndpointsTest(WebhookCase):
    """What is sent to an endpoint, and what is kept of it."""

    async def test_signed(self) -> None:
        """The receiver verifies the request by the ``standardwebhooks`` package, also with the secret before."""
        now_ms = time.time_ns() // 1_000_000  # which the package compares with the time of this machine
        await self.open(now_ms=lambda: now_ms)
        old = new_secret()
        endpoint = await self.endpoint(old_secret=old, old_until_ms=now_ms + 1)
        await self.world.ended(await self.tell(endpoint))
        (request,) = self.receiver.requests
        for secret in (endpoint.secret, old):
            self.assertEqual(Webhook(secret).verify(request.body, request.headers), request.json)
        self.assertEqual(len(request.headers["webhook-signature"].split()), 2)
        (delivery,) = await self.deliveries(endpoint)
        self.assertEqual((delivery.delivered, delivery.status, delivery.error), (True, 204, ""))

    async def test_old_secret_ends(self) -> None:
        """After the overlap the old secret signs no more."""
        await self.open()
        endpoint = await self.endpoint(old_secret=new_secret(), old_until_ms=self.now_ms())
        await self.world.ended(await self.tell(endpoint))
        self.assertEqual(len(self.receiver.requests[0].headers["webhook-signature"].split()), 1)

    async def test_given_id_and_time(self) -> None:
        """A job may say which id and time the receiver sees."""
        await self.open()
        await self.world.ended(await self.tell(await self.endpoint(), id="event-1", time="2026-11-28T14:00:00Z"))
        (request,) = self.receiver.requests
        self.assertEqual(request.headers["webhook-id"], "event-1")
        self.assertEqual(request.json["timestamp"], "2026-11-28T14:00:00.000Z")

    async def test_whose(self) -> None:
        """A job of somebody else does not reach an endpoint; one of an application at the broker does."""
        await self.open()
        endpoint = await self.endpoint()
        for owner, state in (("bob", State.FAILED), ("", State.DONE)):
            job = await self.world.ended(await self.tell(endpoint, owner), state)
        missing = await self.world.ended(
            await self.world.submit("webhook", {"endpoint": "nowhere", "event": "e"}), State.FAILED
        )
        assert missing.error is not None
        self.assertEqual(missing.error.code, "not-found")
        self.assertEqual([one.headers["webhook-id"] for one in self.receiver.requests], [job.id])

    async def test_gone(self) -> None:
        """410 disables the endpoint at once, its owner is told, and nothing more is sent to it."""
        await self.open()
        self.receiver.answers = [status(410)]
        endpoint = await self.endpoint()
        await self.world.ended(await self.tell(endpoint), State.FAILED)
        found = await self.stored(endpoint)
        self.assertEqual((found.enabled, found.reason), (False, "its receiver answered 410 Gone"))
        job = await self.world.ended(await self.tell(endpoint), State.FAILED)
        assert job.error is not None
        self.assertIn("410 Gone", job.error.message)
        self.assertEqual(len(self.receiver.requests), 1)
        self.assertEqual(len(await self.notices()), 1)

    async def test_failing_for_days(self) -> None:
        """An endpoint of which every try of five days fails is disabled; one success begins the count anew."""
        await self.open()
        endpoint = await self.endpoint()
        began_ms = self.now_ms()
        for days, code, since in ((0, 500, 0.0), (4, 200, None), (4.5, 503, 4.5), (9, 500, 4.5)):
            self.assertEqual((await self.after(endpoint, began_ms, days, code)).enabled, True)
            expected = None if since is None else began_ms + since * DAY_S * 1000
            self.assertEqual((await self.stored(endpoint)).failing_since_ms, expected)
        found = await self.after(endpoint, began_ms, 9.5, 500)
        self.assertEqual((found.enabled, found.reason), (False, "every try of 5 days failed"))
        ((topic, notice),) = await self.notices()
        self.assertEqual(topic, "user.ann")
        self.assertEqual((notice["endpoint"], notice["error"]), (endpoint.id, "the receiver answered 500"))

    async def after(self, endpoint: Endpoint, began_ms: int, days: float, code: int) -> Endpoint:
        """The endpoint after a try so many days from the beginning."""
        delivery = Delivery(
            endpoint=endpoint.id, job="j", event="e", time_ms=began_ms + round(days * DAY_S * 1000), status=code, ms=1,
            delivered=code == 200, error="" if code == 200 else f"the receiver answered {code}",
        )  # fmt: skip
        patience_ms = round(5 * DAY_S * 1000)

        def change(transaction: store.Transaction) -> None:
            notice = store.tried(transaction, delivery, gone=False, patience_ms=patience_ms)
            self.world.jobs.tell_within(transaction, [] if notice is None else [notice])

        await self.world.database.write(change)
        return await self.stored(endpoint)

    async def test_deliveries_are_bounded(self) -> None:
        """Of each endpoint the last hundred tries are kept."""
        await self.open()
        one, other = await self.endpoint(), await self.endpoint()
        await self.after(other, 0, 0, 200)
        for number in range(103):
            await self.after(one, 0, number, 200)
        found = await self.world.database.read(partial(store.deliveries, id_=one.id, limit=1000))
        self.assertEqual([round(each.time_ms / DAY_S / 1000) for each in found], list(range(102, 2, -1)))
        self.assertEqual(len(await self.deliveries(other)), 1)

    async def test_tries_end(self) -> None:
        """After the tries that there are the job fails; each is kept, under one id."""
        await self.open(attempts=3, patience_days=1e6)  # more time than a busy machine lets pass here
        self.receiver.answers = [status(500)]
        endpoint = await self.endpoint()
        id_ = await self.tell(endpoint)
        await self.world.until(self.sent(3), passing_s=30.0)
        job = await self.world.ended(id_, State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.message, "the receiver answered 500")
        self.assertEqual([one.status for one in await self.deliveries(endpoint)], [500, 500, 500])
        self.assertEqual({one.headers["webhook-id"] for one in self.receiver.requests}, {id_})

    async def test_slow_receiver(self) -> None:
        """One that does not answer takes its turns, and no more: another is served meanwhile. None is lost."""
        await self.open(at_once=2)
        waiting: list[Any] = []
        self.receiver.answers = [self.held(waiting)]
        slow = [await self.send() for _ in range(6)]
        await self.receiver.received(2)
        other = await self.serve()
        for _ in range(3):
            await self.world.ended(await self.send(other.url))
        self.assertEqual(len(self.receiver.requests), 2)
        for request in waiting:
            request.finish()
        self.receiver.answers = [status(204)]
        await self.world.until(self.sent(6), passing_s=1.0)
        for id_ in slow:
            self.assertEqual((await self.world.ended(id_)).attempt, 0)

    # -- what is seen --------------------------------------------------------------------------------------------------

    def held(self, waiting: list[Any]) -> Any:
        def answer(request: Any) -> int:
            waiting.append(request)
            return NOT_DONE_YET

        return answer

    def sent(self, count: int) -> Any:
        async def condition() -> bool:
            return len(self.receiver.requests) >= count

        return condition

    async def deliveries(self, endpoint: Endpoint) -> Sequence[Delivery]:
        return await self.world.database.read(partial(store.deliveries, id_=endpoint.id, limit=10))

    async def notices(self) -> list[tuple[str, Any]]:
        """The events for owners in the outbox: topic and data."""

        def look(transaction: store.Transaction) -> list[tuple[str, Any]]:
            rows = transaction.execute(select(outbox.c.key, outbox.c.message).where(outbox.c.key.like("user.%")))
            return [(key, msgspec.json.decode(from_bytes(message).body)) for key, message in rows]

        return await self.world.database.read(look)
