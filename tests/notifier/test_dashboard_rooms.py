"""The dashboard's rooms: two browsers talk, one of them is away for a while."""

from __future__ import annotations

from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.notifier.pages import PagesCase
from tests.notifier.world import World, pause
from tests.servers.chromium import Chromium

TEXTS = ".talk-text"
_HOLD_HISTORY = """
const ask = window.fetch;
const held = new Promise((go) => { window.letGo = go; });
window.fetch = async (url, ...given) => {
  if (String(url).startsWith("/api/topics/room.kitchen/events")) await held;
  return ask(url, ...given);
};
"""

RIGHTS = ("subscribe:room.*", "publish:room.*", "publish:user.*")


class RoomsTest(PagesCase):
    """What people do in rooms."""

    async def room(self, world: World, name: str = "kitchen", **more: Any) -> None:
        body = {"name": name, "title": "Kitchen", "members": ["ann", "bob"], **more}
        status, answer, _ = await world.call("POST", "/api/rooms", body)
        self.assertEqual(status, 201, answer)

    async def say(self, chromium: Chromium, words: str) -> None:
        await chromium.fill("#say", words)
        await self.keys(chromium, Keys.ENTER)

    async def said(self, chromium: Chromium, *words: str) -> None:
        """Wait until these are the texts of the messages."""
        await chromium.wait_for_texts(TEXTS, lambda texts: tuple(texts) == words)

    async def badge(self, chromium: Chromium, number: str) -> None:
        """Wait until the navigation shows so many unread in rooms, "" for none."""
        await self.true(
            chromium,
            "(badge => (badge.hidden ? '' : badge.textContent) === arguments[0])"
            "(document.querySelector('#nav a[href=\"/rooms\"] .badge'))",
            number,
        )

    async def test_made_and_talked_in(self) -> None:
        """A private room is made by keyboard; its member finds it, both see each other, type and talk."""
        world = await self.recording()
        ann = await self.visitor(world)
        bob = await self.visitor(world, "bob", *RIGHTS)
        await self.go(bob, world, "/rooms")
        await self.go(ann, world, "/rooms")
        await ann.click("#new-room")
        self.assertEqual(await self.script(ann, "return document.activeElement.id"), "room-title")
        await self.keys(ann, "Café münchen")
        self.assertEqual(await self.script(ann, "return document.querySelector('#room-name').value"), "cafe-munchen")
        await ann.click("dialog input[value='1']")
        await ann.fill("#room-members", "bob")
        await self.script(ann, "document.querySelector('#room-title').focus()")
        await self.keys(ann, Keys.ENTER)
        await ann.wait_for_texts(".talk-name h2", lambda texts: list(texts) == ["Café münchen"])

        await bob.wait_for_texts(".talks-row", lambda texts: any("Café münchen" in text for text in texts))
        await bob.click(".talks-row")
        await ann.wait_for_texts(".talk-present", lambda texts: any("2 here" in text for text in texts))
        await bob.fill("#say", "Is there ")
        await ann.wait_for_texts(".talk-typing", lambda texts: list(texts) == ["bob is typing…"])
        await self.keys(bob, "coffee?", Keys.ENTER)
        await self.said(ann, "Is there coffee?")
        await ann.wait_for_texts(".talk-typing", lambda texts: list(texts) == [""])
        await self.say(ann, "Always.")
        for one in (ann, bob):
            await self.said(one, "Is there coffee?", "Always.")
            await one.wait_for_texts(".talk-state", lambda texts: not texts)
            self.assertEqual(await one.complaints(), [])

    async def test_unread(self) -> None:
        """What is said while one is elsewhere is counted, and stands below a line when one comes back; also in
        another tab's life of the same browser."""
        world = await self.recording()
        await self.room(world)
        ann = await self.visitor(world)
        await self.go(ann, world, "/rooms/kitchen")
        await self.publish(world, "room.kitchen", "message", {"text": "One"}, who="bob")
        await self.said(ann, "One")
        await ann.click("#nav a[href='/jobs']")
        await ann.wait_for_texts("main h1", lambda texts: list(texts) == ["Jobs"])
        await self.publish(world, "room.kitchen", "message", {"text": "Two"}, who="bob")
        await self.badge(ann, "1")
        await ann.open("about:blank")
        await self.publish(world, "room.kitchen", "message", {"text": "Three"}, who="bob")
        await self.go(ann, world, "/jobs")
        await self.badge(ann, "2")
        await ann.click("#nav a[href='/rooms']")
        await ann.click(".talks-row")
        await self.said(ann, "One", "Two", "Three")
        order = "return Array.from(document.querySelectorAll('.talk-new, .talk-text'), one => one.textContent)"
        self.assertEqual(await self.script(ann, order), ["One", "New", "Two", "Three"])
        await self.badge(ann, "")

    async def test_said_before_the_history_has_come(self) -> None:
        """What one says while the room's history is still on its way is shown once, below it."""
        world = await self.recording()
        await self.room(world)
        await self.publish(world, "room.kitchen", "message", {"text": "Before"}, who="bob")
        ann = await self.visitor(world)
        await self.go(ann, world, "/rooms")
        await self.script(ann, _HOLD_HISTORY)
        await ann.click(".talks-row")
        await self.say(ann, "Early")
        await self.until_kept(world, 3)
        await self.script(ann, "letGo()")
        await self.said(ann, "Before", "Early")
        await self.publish(world, "room.kitchen", "message", {"text": "After"}, who="bob")
        await self.said(ann, "Before", "Early", "After")

    async def test_history(self) -> None:
        """The latest messages come first; who scrolls up reads on to the beginning, and stays where they were."""
        world = await self.recording()
        await self.room(world)
        events = [
            world.event("room.kitchen", "message", {"text": f"Message {number}"}, source="bob") for number in range(200)
        ]
        await world.scribe.record(events)
        ann = await self.visitor(world)
        await self.go(ann, world, "/rooms/kitchen")
        await ann.wait_for_texts(TEXTS, lambda texts: texts[-1:] == ["Message 199"])
        self.assertNotIn("Message 0", await ann.texts(TEXTS))
        for before in (90, 30, 0):
            await self.script(ann, "document.querySelector('.talk-view').scrollTop = 0")
            await ann.wait_for_texts(TEXTS, lambda texts, wanted=before: f"Message {wanted}" in texts)  # type: ignore[misc]  # mypy infers no default
            self.assertGreater(await self.script(ann, "return document.querySelector('.talk-view').scrollTop"), 0)
        await ann.wait_for_texts(".talk-top", lambda texts: list(texts) == ["The beginning"])
        shown = await ann.texts(TEXTS)
        self.assertEqual(shown, [f"Message {number}" for number in range(200)])

    async def test_not_sent(self) -> None:
        """A message that is refused says so and why, stays, and is said once when it is tried again."""
        world = await self.recording()
        await self.room(world, members=["ann"])
        bob = await self.visitor(world, "bob", *RIGHTS)
        await self.go(bob, world, "/rooms/kitchen")
        await bob.wait_for_texts(".talk-top", lambda texts: list(texts) == ["The beginning"])
        closed = {"private": True, "members": ["ann"]}
        self.assertEqual((await world.call("PUT", "/api/rooms/kitchen", closed))[0], 200)
        await self.say(bob, "Let me in")
        await bob.wait_for_texts(".talk-state", lambda texts: any("Not sent" in text for text in texts))
        self.assertEqual((await world.call("PUT", "/api/rooms/kitchen", {"members": ["ann", "bob"]}))[0], 200)
        await bob.click(".talk-state button")
        await bob.wait_for_texts(".talk-state", lambda texts: list(texts) in ([], ["Sent"]))
        await self.go(bob, world, "/rooms/kitchen")
        await self.said(bob, "Let me in")

    async def test_gap(self) -> None:
        """What was erased while one was away is said, where it is missing."""
        world = await self.recording()
        await self.room(world)
        ann = await self.visitor(world)
        await self.go(ann, world, "/rooms/kitchen")
        await self.publish(world, "room.kitchen", "message", {"text": "One"}, who="bob")
        await self.said(ann, "One")
        world.scribe.lose = lambda exchange, key: True  # it hears of nothing for a while
        await self.publish(world, "room.kitchen", "message", {"text": "Two"}, who="bob")
        await self.until_kept(world, 3)
        await world.journal.erase("room.kitchen")
        world.scribe.lose = lambda exchange, key: False
        await self.publish(world, "room.kitchen", "message", {"text": "Three"}, who="bob")
        await self.said(ann, "One", "Three")
        order = "return Array.from(document.querySelectorAll('.talk-torn, .talk-text'), one => one.className)"
        self.assertEqual(
            [one.split(" ")[-1] for one in await self.script(ann, order)], ["talk-text", "talk-torn", "talk-text"]
        )

    async def test_direct(self) -> None:
        """A direct message is read by both, and by nobody else; the other one hears of it wherever they are."""
        world = await self.recording()
        ann = await self.visitor(world)
        bob = await self.visitor(world, "bob", *RIGHTS)
        await self.go(bob, world, "/jobs")
        await self.go(ann, world, "/rooms")
        await ann.click("#new-message")
        await self.keys(ann, "bob", Keys.ENTER)
        await self.say(ann, "Lunch?")
        await self.said(ann, "Lunch?")
        await bob.wait_for_texts(".toast-text", lambda texts: list(texts) == ["Lunch?"])
        await self.badge(bob, "1")
        await bob.click(".toast-open")
        await self.said(bob, "Lunch?")
        await self.say(bob, "At noon.")
        await self.said(ann, "Lunch?", "At noon.")
        await self.go(ann, world, "/rooms/%40bob")
        await self.said(ann, "Lunch?", "At noon.")
        await self.badge(bob, "")

    async def test_not_allowed(self) -> None:
        """Who may read and not write is told which right is missing; a room that is not theirs is not shown."""
        world = await self.recording()
        await self.room(world)
        await self.room(world, "attic", title="Attic", private=True, members=["ann"])
        bob = await self.visitor(world, "bob", "subscribe:room.*")
        await self.go(bob, world, "/rooms/kitchen")
        await bob.wait_for_texts(
            ".talk > .notice.wait", lambda texts: any("publish:room.kitchen" in one for one in texts)
        )
        await bob.wait_for_texts(".talks-row", lambda texts: len(texts) == 1)
        await self.go(bob, world, "/rooms/attic")
        await bob.wait_for_texts(".talk > .notice.bad", any)

    # -- the journal ---------------------------------------------------------------------------------------------------

    async def until_kept(self, world: World, number: int) -> None:
        """Wait until the room has so many events, and the notifier was told of them or not. It cannot be asked: what
        it was not told of is not there to it."""
        while len((await world.journal.read(["room.kitchen"], after=0, limit=number)).events) < number:
            await pause(0.01)
        await world.scribe.settled()
