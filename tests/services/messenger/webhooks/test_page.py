"""The dashboard's webhooks in a browser: endpoints made, tried, rotated, disabled, sent to again."""

from __future__ import annotations

from typing import Any

from standardwebhooks import Webhook
from twisted.internet.defer import Deferred

from msgd.services.messenger.webhooks.worker import Webhooks
from msgd.work.attempt import Limits
from msgd.work.runner import Runner
from tests.notifier.pages import HOSTILE, PHONE, PagesCase
from tests.notifier.world import World, forget_timers, pause
from tests.servers.chromium import Chromium
from tests.services.messenger.webhooks.receiving import LOOPBACK, Receiver, reactor, status
from tests.services.messenger.webhooks.world import WebhookWorld


class WebhooksPageTest(PagesCase):
    """What people do with endpoints."""

    async def recording(self) -> World:
        """A world with webhooks, in which whatever is published is journaled."""
        world = WebhookWorld()
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start()
        await world.scribe.listen()
        await world.outbox.start()
        return world

    async def sending(self, world: World) -> Receiver:
        """A receiver, and a worker that sends to it."""
        receiver = Receiver()
        await receiver.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.stop()))
        runner = Runner(
            [Webhooks(reactor, LOOPBACK, world.jobs)],
            jobs=world.jobs,
            broker=world.broker,
            clock=reactor,
            process="test",
            limits=lambda _: Limits(concurrency=32, attempts=10),
        )
        await runner.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(runner.stop()))
        return receiver

    async def states(self, chromium: Chromium, *states: str) -> None:
        """Wait until the page shows these states."""
        await chromium.wait_for_texts("main .state", lambda texts: tuple(texts) == states)

    async def make(self, world: World, **body: Any) -> dict[str, Any]:
        code, made, _ = await world.call("POST", "/api/webhooks", body)
        self.assertEqual(code, 201, made)
        return dict(made)

    async def test_life_of_an_endpoint(self) -> None:
        """It is made, its secret shown once; a test verifies; its receiver is gone, and back; events are sent again;
        it is deleted."""
        world = await self.recording()
        receiver = await self.sending(world)
        chromium = await self.visitor(world)
        await self.go(chromium, world, "/webhooks")
        await chromium.wait_for_texts("main h2", lambda texts: list(texts) == ["No endpoints yet"])
        await chromium.fill("#url", "example.com")
        await chromium.click("#add")
        await chromium.wait_for_texts("#url-wrong", lambda texts: any("https://" in text for text in texts))
        await chromium.fill("#url", receiver.url)
        await chromium.fill("#description", "Invoices")
        await chromium.click("#add")
        await chromium.wait_for_texts("#secret", lambda texts: any(text.startswith("whsec_") for text in texts))
        secret = await chromium.text("#secret")
        await chromium.click("#secret-kept")
        await self.states(chromium, "Enabled")

        await chromium.click("#ping")
        await self.states(chromium, "Enabled", "204")
        self.assertEqual(
            Webhook(secret).verify(receiver.requests[0].body, receiver.requests[0].headers)["type"], "msgd.ping"
        )
        receiver.answers = [status(410)]
        await chromium.click("#ping")
        await self.states(chromium, "Disabled", "410", "204")
        await chromium.click("#toggle")
        await self.states(chromium, "Enabled", "410", "204")

        receiver.answers = [status(200)]
        for number in range(3):
            await self.publish(world, "app.invoice", "created", {"number": number})
        while len((await world.journal.read(["app.#"], after=0, limit=9)).events) < 3:
            await pause(0.01)
        await chromium.fill("#topics", "app.*")
        await chromium.click("#replay")
        await chromium.wait_for_texts(".notice.good", lambda texts: list(texts) == ["3 events are on their way."])
        await self.states(chromium, "Enabled", "200", "200", "200", "410", "204")

        await chromium.click("#rotate")
        await chromium.wait_for_texts("#secret", lambda texts: secret not in texts and len(texts) == 1)
        await chromium.click("#secret-kept")
        await self.script(chromium, "window.confirm = () => true")
        await chromium.click("#delete")
        await chromium.wait_for_texts("main h2", lambda texts: list(texts) == ["No endpoints yet"])
        complaints = [one for one in await chromium.complaints() if "400" not in one]
        self.assertEqual(complaints, [])

    async def test_others(self) -> None:
        """Without the right to make one the page says which right is missing; of another's endpoint nothing is told."""
        world = await self.recording()
        made = await self.make(world, url="https://example.com/hook")
        chromium = await self.visitor(world, "bob", "subscribe:app.#")
        await self.go(chromium, world, "/webhooks")
        await chromium.fill("#url", "https://example.com/mine")
        await chromium.click("#add")
        await chromium.wait_for_texts(".advice code", lambda texts: "submit:webhook" in texts)
        await self.go(chromium, world, f"/webhooks/{made['id']}")
        await chromium.wait_for_texts("main h1", lambda texts: list(texts) == ["No such endpoint"])

    async def test_on_a_phone(self) -> None:
        """Nothing is wider than a phone, and hostile text is text."""
        world = await self.recording()
        made = await self.make(world, url=f"https://example.com/{'x' * 300}", description=HOSTILE[:200])
        chromium = await self.visitor(world)
        await self.resize(chromium, *PHONE)
        for path in ("/webhooks", f"/webhooks/{made['id']}"):
            await self.go(chromium, world, path)
            await self.states(chromium, "Enabled")
            self.assertEqual(await self.script(chromium, "return document.documentElement.scrollWidth"), PHONE[0])
            self.assertIn(HOSTILE[:30], await chromium.text("main"))
            self.assertIsNone(await self.script(chromium, "return window.ran"))
        self.assertEqual(await chromium.complaints(), [])
