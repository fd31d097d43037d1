"""Story 3, chat rooms: people in browsers and one who can only poll see the same messages, whatever dies meanwhile."""

from __future__ import annotations

from typing import Final

from selenium.webdriver.common.keys import Keys
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.client.blocking import Client
from tests.servers.chromium import browser
from tests.stories.dashboard import Dashboard
from tests.stories.deployment import PATIENCE_S, logs_on_failure
from tests.stories.pair import Pair, Poller

TEXTS: Final = ".talk-message p.talk-text"
RIGHTS: Final = ("subscribe:room.*", "publish:room.*")


async def say(dashboard: Dashboard, text: str) -> None:
    """Write a message and press Enter."""
    await dashboard.browser.fill("#say", text + Keys.ENTER)


async def hears(dashboard: Dashboard, texts: list[str]) -> None:
    """Wait until these are the messages in view, the oldest first."""
    await dashboard.browser.wait_for_texts(TEXTS, lambda seen: list(seen) == texts, seconds=PATIENCE_S)


class ChatTest(TestCase):
    """Two browsers and a client that can only poll, behind nginx."""

    timeout = 900

    async def test_everybody_sees_the_same(self) -> None:
        """A room is made over the same port, people join, see who is there and who types, and read the history; a
        kill -9 of the broker and of either notifier loses nothing and repeats nothing."""
        pair = await deferToThread(Pair, self)
        with logs_on_failure(pair.first, pair.second):
            await self.go(pair)

    async def go(self, pair: Pair) -> None:
        anna, ben = [Dashboard(await browser(self, reactor), pair.url) for _ in range(2)]
        await anna.sign_in(pair.token("anna", *RIGHTS))
        await ben.sign_in(pair.token("ben", *RIGHTS))
        carl = Client(pair.url, pair.token("carl", *RIGHTS))
        self.addCleanup(carl.close)

        # Anna makes the room, and Ben finds it.
        await anna.browser.click("#nav a[href='/rooms']")
        await anna.browser.click("#new-room")
        await anna.browser.fill("#room-name", "kitchen")
        await anna.browser.click("dialog button[type=submit]")
        await anna.browser.wait(lambda driver: driver.current_url.endswith("/rooms/kitchen"), "the room")
        await ben.go("/rooms")
        await ben.browser.click(".talks-row[href='/rooms/kitchen']")
        for dashboard in (anna, ben):
            await dashboard.browser.wait_for_texts(
                ".talk-present", lambda texts: "anna" in "".join(texts) and "ben" in "".join(texts)
            )
        poller = await deferToThread(Poller, self, pair.url, pair.token("carl", *RIGHTS), "room.kitchen")

        told = ["Who takes the bread out?"]
        await say(anna, told[0])
        await hears(ben, told)
        await ben.browser.fill("#say", "I")
        await anna.browser.wait_for_texts(".talk-typing", lambda texts: texts[:1] == ["ben is typing…"])
        told.append("I do")
        await ben.browser.fill("#say", told[-1] + Keys.ENTER)
        await hears(anna, told)
        told.append("Thank you both")
        await deferToThread(carl.publish, "room.kitchen", "message", {"text": told[-1]})
        for dashboard in (anna, ben):
            await hears(dashboard, told)

        # The broker dies, then each notifier in turn, while they talk.
        for victim in (None, pair.first, pair.second):
            dying = (
                deferToThread(pair.restart_broker) if victim is None else deferToThread(pair.kill_and_restart, victim)
            )
            for dashboard in (anna, ben):
                told.append(f"message {len(told)}")
                await say(dashboard, told[-1])
                # In turn: what two people say at once has no order of its own.
                for one in (anna, ben):
                    await hears(one, told)
            await dying
            for one in (anna, ben):
                await hears(one, told)

        # Who comes late reads it all, and polling has eaten nobody's message.
        late = Dashboard(await browser(self, reactor), pair.url)
        await late.sign_in(pair.token("dora", *RIGHTS))
        await late.go("/rooms/kitchen")
        await hears(late, told)
        spoken = [event for event in poller.events if event["type"] == "message"]
        while len(spoken) < len(told):
            await deferToThread(poller.until, len(poller.events) + 1)
            spoken = [event for event in poller.events if event["type"] == "message"]
        self.assertEqual([event["data"]["text"] for event in spoken], told)
        seqs = [event["seq"] for event in poller.events if event["seq"] is not None]
        self.assertEqual(seqs, list(range(seqs[0], seqs[0] + len(seqs))))
        self.assertEqual(poller.gaps, [])
