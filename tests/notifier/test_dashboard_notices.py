"""The dashboard's notifications and topics."""

from __future__ import annotations

from functools import partial
from operator import eq

from selenium.webdriver.common.keys import Keys

from tests.notifier.pages import PagesCase
from tests.notifier.world import World
from tests.servers.chromium import Chromium

TITLES = ".notice-title"


class NotificationsTest(PagesCase):
    """What applications say to users."""

    async def invoice(self, world: World, number: int, what: str = "created") -> None:
        data = {"title": f"Invoice {number} {what}", "text": "For a client", "url": f"/invoices/{number}"}
        await self.publish(world, f"app.invoice.{what}", what, data)

    async def toasts(self, chromium: Chromium, *titles: str) -> None:
        await chromium.wait_for_texts(".toast-title", lambda texts: tuple(texts) == titles)

    async def unread(self, chromium: Chromium, words: str) -> None:
        await chromium.wait_for_texts("#unread", lambda texts: list(texts) == [words])

    async def test_toasts(self) -> None:
        """A toast shows on any page, leaves the focus alone, stays while it is looked at, opens, and goes by key."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await chromium.click("#url")
        await self.invoice(world, 1)
        await self.toasts(chromium, "Invoice 1 created")
        self.assertEqual(await self.script(chromium, "return document.activeElement.id"), "url")
        self.assertEqual(await chromium.text("#nav a[href='/notifications'] .badge"), "1")
        await self.script(chromium, "document.querySelector('.toast .button').focus()")
        await self.keys(chromium, Keys.ESCAPE)
        await self.toasts(chromium)
        await self.invoice(world, 2)
        await chromium.click(".toast-open")
        self.assertIn("For a client", await chromium.text("dialog"))
        link = "return document.querySelector('dialog a').getAttribute('href')"
        self.assertEqual(await self.script(chromium, link), f"{world.url}/invoices/2")
        await self.keys(chromium, Keys.ESCAPE)
        await chromium.wait_for_texts("dialog", lambda texts: not texts)
        for number in range(3, 8):
            await self.invoice(world, number)
        await self.toasts(chromium, "2 more: see all", *(f"Invoice {number} created" for number in (5, 6, 7)))
        self.assertEqual(await chromium.complaints(), [])

    async def test_filters(self) -> None:
        """The list is filtered by topic pattern, type and text; the filters stand in the address."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.invoice(world, 1)
        await self.invoice(world, 2, "paid")
        await self.publish(world, "app.client.added", "added", {"name": "No title, but ÄRGER"})
        await self.go(chromium, world, "/notifications")
        await chromium.wait_for_texts(TITLES, lambda texts: len(texts) == 3)
        for field, words, titles in (
            ("topic", "app.invoice.*", ["Invoice 2 paid", "Invoice 1 created"]),
            ("type", "PAID", ["Invoice 2 paid"]),
            ("text", "ärger", ["added"]),
        ):
            await chromium.fill(f"#filter-{field}", words)
            await chromium.wait_for_texts(TITLES, partial(eq, titles))
            await chromium.reload()
            await chromium.wait_for_texts(TITLES, partial(eq, titles))
            await self.go(chromium, world, "/notifications")
        await chromium.fill("#filter-topic", "no..topic")
        self.assertIn("No topic", await chromium.text(".wrong"))
        await chromium.fill("#filter-topic", "app.nothing")
        await chromium.wait_for_texts(".empty h2", lambda texts: list(texts) == ["Nothing matches"])

    async def test_unread(self) -> None:
        """What came since is unread, on every page and over a reload, until it is marked read."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.go(chromium, world, "/notifications")
        await self.unread(chromium, "All read")
        await self.invoice(world, 1)
        await self.unread(chromium, "1 unread")
        await chromium.open("about:blank")
        await self.invoice(world, 2)
        await self.go(chromium, world, "/notifications")
        await self.unread(chromium, "2 unread")
        await self.toasts(chromium)  # what is history is no toast
        await chromium.click("#mark-read")
        await self.unread(chromium, "All read")
        await self.go(chromium, world, "/notifications")
        await self.unread(chromium, "All read")

    async def test_choice(self) -> None:
        """Only chosen topics show as toasts; the list has all that one may read, and nothing else."""
        world = await self.recording()
        chromium = await self.visitor(world, "ann", "subscribe:app.invoice.*")
        await self.go(chromium, world, "/notifications")
        await chromium.click("summary")
        await chromium.fill("#toast-patterns", "*.invoice.paid")
        await self.invoice(world, 1)
        await self.publish(world, "app.client.added", "added", {"title": "Not hers"})
        await self.publish(world, "user.bob", "hint", {"title": "Not hers either"})
        await self.publish(world, "user.ann.hints", "hint", {"title": "Hers"})
        await self.invoice(world, 2, "paid")
        await self.toasts(chromium, "Invoice 2 paid")
        wanted = ["Invoice 2 paid", "Hers", "Invoice 1 created"]
        await chromium.wait_for_texts(TITLES, lambda texts: list(texts) == wanted)


class TopicsTest(PagesCase):
    """Watching whatever happens."""

    async def watch(self, chromium: Chromium, topic: str, since: str) -> None:
        await chromium.fill("#topic", topic)
        await self.script(chromium, "document.querySelector('#from').value = arguments[0]", since)
        await chromium.click("#watch")

    async def cells(self, chromium: Chromium, *wanted: str) -> None:
        """Wait until these are the data of the rows, or what stands in a torn one."""
        css = ".grid-row .cell-value, .grid-row.torn"
        await chromium.wait_for_texts(css, lambda texts: tuple(texts) == wanted)

    async def test_both_ways(self) -> None:
        """From now on, then back in history; from the first kept; what one's own dashboard watches too."""
        world = await self.recording()
        events = [world.event("app.log", "line", number) for number in range(5)]
        await world.scribe.record(events)
        chromium = await self.visitor(world)
        await self.go(chromium, world, "/topics")
        await self.watch(chromium, "app.#", "now")
        await chromium.wait_for_texts("#watched", lambda texts: any("Watching app.#" in text for text in texts))
        await self.publish(world, "app.log", "line", "new")
        await self.cells(chromium, "new")
        await chromium.click(".watched .button")
        await self.cells(chromium, "0", "1", "2", "3", "4", "new")
        await self.watch(chromium, "app.log", "0")
        await self.cells(chromium, "0", "1", "2", "3", "4", "new")
        numbers = await chromium.texts(".grid-row .cell-number")
        self.assertEqual(numbers, ["1", "2", "3", "4", "5", "6"])
        await chromium.click(".grid-row")
        self.assertIn("app.log", await chromium.text("dialog"))
        self.assertEqual(await chromium.complaints(), [])

    async def test_gap(self) -> None:
        """What is missing is a row of its own, between what was before it and what came after."""
        world = await self.recording()
        await world.scribe.record([world.event("app.log", "line", number) for number in range(3)])
        _, page, _ = await world.call("GET", "/api/topics/app.log/events?since=0&limit=1")
        await world.journal.erase("app.log")
        await world.scribe.record([world.event("app.log", "line", "after")])
        chromium = await self.visitor(world)
        await self.go(chromium, world, f"/topics?topic=app.log&since={page['cursor']}")
        await self.cells(chromium, "2 events are missing here: they were erased.", "after")

    async def test_publish(self) -> None:
        """A test event is published from the page, and a command for the shell stands beside it."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.go(chromium, world, "/topics?topic=app.log&since=now")
        await chromium.wait_for_texts("#watched", lambda texts: any("Watching" in text for text in texts))
        await chromium.fill("#publish-data", "{no json")
        await self.script(chromium, "document.querySelector('#publish-data').form.requestSubmit()")
        self.assertIn("No JSON", await chromium.text("#publish-wrong"))
        await chromium.fill("#publish-data", '{"n": 1}')
        await self.script(chromium, "document.querySelector('#publish-data').form.requestSubmit()")
        await self.cells(chromium, '{"n":1}')
        commands = await chromium.texts(".command")
        self.assertTrue(any(f"{world.url}/api/events?topics=app.log" in one for one in commands), commands)

    async def test_not_allowed(self) -> None:
        """A refusal names the right that is missing."""
        world = await self.recording()
        chromium = await self.visitor(world, "ann", "subscribe:app.log")
        await self.go(chromium, world, "/topics?topic=app.secret&since=0")
        await chromium.wait_for_texts(
            ".notice.bad", lambda texts: any("subscribe:app.secret" in text for text in texts)
        )
        await chromium.fill("#publish-topic", "app.log")
        await self.script(chromium, "document.querySelector('#publish-data').form.requestSubmit()")
        await chromium.wait_for_texts(".notice.bad", lambda texts: any("publish:app.log" in text for text in texts))
