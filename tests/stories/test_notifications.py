"""Story 2, application events as notifications: the right users see them at once, and nobody misses one while the
broker and a notifier die."""

from __future__ import annotations

from typing import Final

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.servers.chromium import Chromium, browser
from tests.stories.dashboard import Dashboard
from tests.stories.deployment import logs_on_failure
from tests.stories.pair import Pair, Poller, Shop

TITLES: Final = ".notice-title"
TOASTS: Final = ".toast-title"


async def notified(chromium: Chromium, url: str) -> list[str]:
    """The titles of all notifications, the oldest first, on their page."""
    if not (await chromium.run(lambda driver: driver.current_url)).startswith(f"{url}/notifications"):
        await chromium.click("#nav a[href='/notifications']")

    def titles(driver: Chrome) -> list[str]:
        return [row.text for row in driver.find_elements(By.CSS_SELECTOR, TITLES)][::-1]

    return await chromium.run(titles)


class NotificationsTest(TestCase):
    """Two browsers and a client that can only poll, behind nginx."""

    timeout = 600

    async def test_nobody_misses_anything(self) -> None:
        """Toasts for who may see them, nothing for others; a kill -9 of the broker and of either notifier loses nothing
        and repeats nothing."""
        pair = await deferToThread(Pair, self)
        with logs_on_failure(pair.first, pair.second):
            await self.go(pair)

    async def go(self, pair: Pair) -> None:
        invoices, clients = "subscribe:app.invoice.#", "subscribe:app.client.#"
        anna, ben = [Dashboard(await browser(self, reactor), pair.url) for _ in range(2)]
        await anna.sign_in(pair.token("anna", invoices))
        await ben.sign_in(pair.token("ben", clients))
        poller = await deferToThread(Poller, self, pair.url, pair.token("anna", invoices), "app.invoice.*")
        shop = Shop(pair.node.url())
        self.addCleanup(shop.close)
        told: list[str] = []

        async def say(title: str) -> None:
            told.append(title)
            await deferToThread(shop.say, "app.invoice.created", title)

        await say("Invoice 1")
        await anna.browser.wait_for_texts(TOASTS, lambda texts: list(texts) == ["Invoice 1"])
        await deferToThread(shop.say, "app.client.added", "Client 1")
        await ben.browser.wait_for_texts(TOASTS, lambda texts: list(texts) == ["Client 1"])
        await anna.browser.wait_for_texts(TOASTS, lambda texts: "Client 1" not in texts)

        # The broker dies while events are published; then each notifier in turn, so that of each client one dies.
        dying = deferToThread(pair.restart_broker)
        for number in range(2, 12):
            await say(f"Invoice {number}")
        await dying
        for made in (pair.first, pair.second):
            dying = deferToThread(pair.kill_and_restart, made)
            for number in range(len(told) + 1, len(told) + 11):
                await say(f"Invoice {number}")
            await dying
        await say("The last")
        await anna.browser.wait_for_texts(TOASTS, lambda texts: "The last" in texts)
        await anna.browser.click("#nav a[href='/notifications']")
        await anna.browser.wait_for_texts(TITLES, lambda texts: len(texts) >= len(told))
        self.assertEqual(await notified(anna.browser, pair.url), told)

        await deferToThread(shop.say, "app.client.added", "Client 2")
        await ben.browser.click("#nav a[href='/notifications']")
        await ben.browser.wait_for_texts(TITLES, lambda texts: len(texts) >= 2)
        self.assertEqual(await notified(ben.browser, pair.url), ["Client 1", "Client 2"])

        await deferToThread(poller.until, len(told))
        self.assertEqual([event["data"]["title"] for event in poller.events], told)
        self.assertEqual([event["seq"] for event in poller.events], list(range(1, len(told) + 1)))
        self.assertEqual(poller.gaps, [])
