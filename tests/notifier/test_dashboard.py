"""The dashboard in a real Chromium, on the embedded broker and SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from msgd.broker import topology
from msgd.jobs.interface import Claimed, ClaimRequest, TypeInfo
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.messages.envelope import Message
from msgd.messages.events import Event
from msgd.messages.live import encode_batch, live_event
from tests.notifier.world import World, WorldCase, reactor, token
from tests.servers.chromium import Chromium, browser

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
ROWS = ".grid-row"
VALUES = "#panel-result .grid-row .cell-value"


class Crawl:
    """Stands where the crawler stands: claims a job and has pages and results recorded."""

    def __init__(self, world: World, claimed: Claimed) -> None:
        self._world = world
        self.claim = claimed.claim
        self._topic = f"job.{claimed.claim.job}"
        self._found = 0
        self._shown = 0

    def _event(self, type_: str, data: Any, **more: Any) -> Event:
        return self._world.event(
            self._topic, type_, data, source="crawl", run=self.claim.run, token=self.claim.token, **more
        )

    async def find(self, values: Sequence[str]) -> None:
        """Results and their pages, journaled and pushed."""
        events = []
        for value in values:
            url = f"https://shop.example/{self._found}"
            page = {"url": url, "status": 200, "depth": 1, "bytes": 9, "ms": 3, "matches": 1, "error": None}
            result = {"url": url, "title": f"Page {self._found}", "name": "price", "value": value, "context": value}
            self._found += 1
            events += [self._event("page", page), self._event("result", result)]
        for start in range(0, len(events), 500):
            await self._world.scribe.record(events[start : start + 500])

    async def progress(self, done: int, total: int) -> None:
        """Transient, straight to the notifiers."""
        self._shown += 1
        event = self._event("progress", {"done": done, "total": total, "results": self._found}, n=self._shown)
        message = Message(body=encode_batch("", [live_event(event)]), persistent=False)
        await self._world.broker.publish(topology.LIVE, topology.live_key(event.topic), message)


class DashboardTest(WorldCase):
    """What a user does and sees."""

    timeout = 600

    async def begin(self) -> tuple[World, Chromium]:
        """A world whose ends of jobs are journaled, and a browser that is signed in."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="crawl"))
        await world.scribe.listen()
        publisher = Publisher(SqlOutbox(world.database, clock=reactor), world.broker, clock=reactor)
        await publisher.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(publisher.stop()))
        chromium = await browser(self, reactor)
        await chromium.open(f"{world.url}/#token={token('ann', 'submit:crawl')}")
        await chromium.text("main h1")
        return world, chromium

    async def submit(self, world: World, chromium: Chromium) -> Crawl:
        """Fill the form in, press the button, and perform the job."""
        await chromium.fill("#url", "shop.example")
        await chromium.fill(".criterion input.mono", "€ \\d+")
        await chromium.click("button.main")
        await chromium.wait(lambda driver: "/jobs/" in driver.current_url, "the job's page")
        job = (await chromium.run(lambda driver: driver.current_url)).rpartition("/")[2]
        self.assertIn("shop.example", (await world.jobs.get(job)).params.decode())
        claimed = await world.jobs.claim(ClaimRequest(job=job, slice=0, worker="test", redelivered=False))
        assert isinstance(claimed, Claimed)
        return Crawl(world, claimed)

    async def test_a_crawl(self) -> None:
        """Submit, see rows and progress live and as text, lose the connection, reload, cancel, run again."""
        world, chromium = await self.begin()
        self.assertEqual(await chromium.run(lambda driver: driver.current_url), world.url + "/")
        self.assertEqual(await chromium.run(lambda driver: driver.execute_script("return document.cookie")), "")
        crawl = await self.submit(world, chromium)
        await crawl.find(["€ 1", HOSTILE])
        await chromium.wait_for_texts(VALUES, lambda texts: list(texts) == ["€ 1", HOSTILE])
        await crawl.progress(1, 4)
        bar = "return document.querySelector('progress').value"
        await chromium.wait(lambda driver: driver.execute_script(bar) == 0.25, "a quarter of the bar")

        # The connection breaks; what happened meanwhile follows, nothing comes twice.
        for connection in world.doors():
            connection.transport.abortConnection()
        await crawl.find(["€ 3"])
        await chromium.wait_for_texts(VALUES, lambda texts: list(texts) == ["€ 1", HOSTILE, "€ 3"])

        await chromium.reload()
        await crawl.find(["€ 4"])
        await chromium.wait_for_texts(VALUES, lambda texts: list(texts) == ["€ 1", HOSTILE, "€ 3", "€ 4"])
        table = await chromium.download("#download-csv")
        self.assertEqual(table.decode("utf-8-sig").count("\r\n"), 5)

        await chromium.click(".button.danger")
        await chromium.wait(lambda driver: driver.find_element("id", "state").text == "Cancelled", "the end")
        await chromium.wait(_run_again, "the button to run again")
        await chromium.wait(lambda driver: driver.find_element("id", "state").text == "Queued", "the second run")
        await chromium.wait_for_texts(VALUES, lambda texts: not texts)
        self.assertEqual(await chromium.complaints(), [])

    async def test_very_many_rows(self) -> None:
        """Of twenty thousand rows only those in view are in the document; the last one can be reached."""
        world, chromium = await self.begin()
        crawl = await self.submit(world, chromium)
        await crawl.find([f"€ {number}" for number in range(20_000)])
        await chromium.wait_for_texts("#tab-result .count", lambda texts: texts[0] == "20,000")
        self.assertLess(len(await chromium.texts(ROWS)), 100)
        await chromium.run(lambda driver: driver.find_element("css selector", ".grid-view").send_keys("\ue010"))  # End
        await chromium.wait_for_texts(VALUES, lambda texts: "€ 19999" in texts)
        self.assertLess(len(await chromium.texts(ROWS)), 100)
        await chromium.run(
            lambda driver: driver.find_element("css selector", ".grid-view").send_keys("\ue007")
        )  # Enter
        self.assertIn("https://shop.example/19999", await chromium.text("dialog"))
        self.assertEqual(await chromium.complaints(), [])

    async def test_refusals(self) -> None:
        """What the server refuses is said where it belongs; what was typed stays, also over a reload."""
        world, chromium = await self.begin()
        await chromium.click("button.main")
        self.assertIn("address", await chromium.text("#url-wrong"))
        await chromium.fill("#url", "shop.example")
        await chromium.reload()
        await chromium.wait(
            lambda driver: driver.find_element("id", "url").get_attribute("value") == "shop.example", "what was typed"
        )
        await chromium.open(f"{world.url}/jobs/none")
        await self._says(chromium, "main", "no such job")
        await chromium.open(f"{world.url}/jobs?state=failed")
        await self._says(chromium, ".empty", "No failed jobs")

    async def test_sign_in(self) -> None:
        """A stranger sees the form; a bad token is refused with a reason; signing out forgets the cookie."""
        world = await self.world()
        chromium = await browser(self, reactor)
        await chromium.open(f"{world.url}/jobs")
        await chromium.fill("#token", "spoilt")
        await chromium.click("button.main")
        self.assertIn("trusts", await self._notice(chromium))
        await chromium.fill("#token", token("ann"))
        await chromium.click("button.main")
        await self._says(chromium, ".empty", "No jobs yet")
        await chromium.click("#logout")
        await chromium.wait_for_texts("main h1", lambda texts: list(texts) == ["Sign in"])
        await chromium.reload()
        await chromium.wait_for_texts("main h1", lambda texts: list(texts) == ["Sign in"])

    async def _says(self, chromium: Chromium, css: str, words: str) -> None:
        """What is there first says that it is loading."""
        await chromium.wait_for_texts(css, lambda texts: any(words in text for text in texts))

    async def _notice(self, chromium: Chromium) -> str:
        found = await chromium.wait_for_texts(".notice.bad", any)
        return found[0]


def _run_again(driver: Any) -> bool:
    next(one for one in driver.find_elements("css selector", "button") if one.text == "Run again").click()
    return True
