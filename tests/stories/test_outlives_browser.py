"""Story 1, the crawl that outlives the browser: closed, killed, reopened on another machine; all rows, none twice."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from urllib.parse import urlsplit

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.servers.chromium import browser
from tests.stories.dashboard import CANCEL, Dashboard
from tests.stories.deployment import Deployment, distributed, embedded, logs_on_failure
from tests.stories.site import HostileSite, Site, Turnstile, started

PAGES = 90
PRICE = "EUR [0-9.]+"
VALUE_CHARACTERS = 1000
TITLE_CHARACTERS = 300
"""At which the crawler cuts what it shows of a page."""

HOSTILE = {
    "an image": '<img src=x onerror="window.ran = 1">',
    "a script": "<script>window.ran = 2</script>",
    "a frame": '"><iframe srcdoc="<script>parent.ran = 3</script>"></iframe>',
    "a drawing": "</span><svg onload=window.ran=4><style>*{display:none}</style>",
    "an address": "javascript:window.ran=5",
    "a template": "{{constructor.constructor('window.ran = 6')()}} ${window.ran = 7}",
    "a reversal": "invoice \u202e\u2066fdp.exe\u2069 \u200f\u200b\ufeff end",
    "control characters": "bell \x07 escape \x1b[31m delete \x7f end",
    "a long text": "ten kilobytes " * 731,
    "marks on marks": "Z" + "\u0351\u036b\u0357" * 40,
    "a formula": "=HYPERLINK(1)",
}
"""What pages may say to whoever shows it."""

CANCEL_S = 2.0
"""Within a second (DESIGN §3), and as much for the browser and Selenium on a busy machine."""


def shown(text: str, characters: int) -> str:
    """A text of a page as a row has it: on one line, and cut."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


class OutlivesBrowserTests(TestCase):
    """What the first user of the first story does, in Chromium, with real daemons."""

    timeout = 600

    async def open(self, made: Deployment, token: str) -> Dashboard:
        """A user at a machine that has never seen msgd."""
        dashboard = Dashboard(await browser(self, reactor), made.url)
        await dashboard.sign_in(token)
        return dashboard

    async def check(self, made: Deployment, victim: str) -> None:
        await deferToThread(made.start)
        with logs_on_failure(made):
            await self.outlive(made, victim, await deferToThread(made.token))

    async def outlive(self, made: Deployment, victim: str, token: str) -> None:
        site = started(self, Turnstile(PAGES))
        here = await self.open(made, token)
        self.assertEqual(await here.address(), f"{made.url}/", "the token stays in the address")
        job = await here.crawl(site.url, kind="Pattern", expression=PRICE, name="price")

        # Rows appear as pages are answered, and so does progress.
        site.admit(10)
        await here.until_results(lambda count: count == 20)
        await here.until("#state", "Running")
        site.admit(20)
        await here.until_results(lambda count: count == 60)
        self.assertEqual(len(await here.rows()), 60)
        await here.browser.wait_for_texts(".figures dd", lambda texts: texts[0].startswith("30 of "))
        self.assertTrue(0 < await here.progress() < 1)
        await self.reload(here)
        self.assertEqual(await here.browser.complaints(), [])

        # Nobody looks, and the crawler dies among its requests.
        await here.browser.close()
        site.admit(20)
        await deferToThread(made.kill, victim)
        await deferToThread(made.start, victim)

        # Another machine: everything is there, and new rows keep coming.
        there = await self.open(made, token)
        await there.go(f"/jobs/{job}")
        seen = await there.until_results(lambda count: count >= 60)
        site.admit(20)
        await there.until_results(lambda count: count > seen)
        site.admit(PAGES * 10)
        await there.until("#state", "Done")
        await there.until_results(lambda count: count == 2 * PAGES)
        self.assertEqual(await there.progress(), 1)
        rows = await there.rows()
        self.assertEqual([row.number for row in rows], [str(number) for number in range(1, 2 * PAGES + 1)])
        self.assert_all_once(site, [(f"/page/{row.page.removeprefix('Page ')}", row.value) for row in rows])
        table = (await there.browser.download("#download-csv")).decode("utf-8-sig")
        self.assert_all_once(
            site, [(urlsplit(row["url"]).path, row["value"]) for row in csv.DictReader(io.StringIO(table))]
        )
        await self.cancel(there)
        self.assertEqual(await there.browser.complaints(), [])

    def assert_all_once(self, site: Site, found: list[tuple[str, str]]) -> None:
        self.assertEqual(Counter(found), Counter(site.results()))

    async def reload(self, dashboard: Dashboard) -> None:
        """A reload comes back to the row one was at."""
        await dashboard.scroll_to(25)
        await dashboard.browser.reload()
        await dashboard.until_at(25)

    async def cancel(self, dashboard: Dashboard) -> None:
        """Another crawl, whose site does not answer, ends within a second of the click."""
        site = started(self, Turnstile(PAGES))
        await dashboard.crawl(site.url, kind="Pattern", expression=PRICE)
        site.admit(3)
        await dashboard.until_results(lambda count: count == 6)
        await dashboard.browser.click(CANCEL)
        clicked = time.monotonic()
        await dashboard.until("#state", "Cancelled")
        self.assertLess(time.monotonic() - clicked, CANCEL_S)
        self.assertEqual(len(await dashboard.rows()), 6)

    async def test_what_a_page_says_is_text(self) -> None:
        """Markup, scripts, control characters and ten kilobytes in titles and values are shown, and do nothing."""
        made = embedded(self)
        await deferToThread(made.start)
        site = started(self, HostileSite(tuple(HOSTILE.values())))
        with logs_on_failure(made):
            user = await self.open(made, await deferToThread(made.token))
            await user.crawl(site.url, kind="CSS selector", expression="b", name=HOSTILE["an image"], attr="data-text")
            await user.until("#state", "Done")
            await user.until_results(lambda count: count == len(HOSTILE))
            rows = await user.rows()
            self.assertEqual({row.value for row in rows}, {shown(text, VALUE_CHARACTERS) for text in HOSTILE.values()})
            self.assertEqual({row.page for row in rows}, {shown(text, TITLE_CHARACTERS) for text in HOSTILE.values()})
            self.assertEqual({row.name for row in rows}, {HOSTILE["an image"]})
            for number, row in enumerate(rows, 1):
                self.assertEqual((await user.details(number))["Value"], row.value)
            self.assertFalse(await user.overflows())
            await user.go("/jobs")
            self.assertIsNone(await user.browser.run(lambda driver: driver.execute_script("return window.ran")))
            self.assertEqual(await user.browser.complaints(), [])

    async def test_on_the_embedded_defaults(self) -> None:
        """One process, on SQLite: the whole process is killed."""
        await self.check(embedded(self), "msgd")

    async def test_on_rabbitmq_and_postgresql(self) -> None:
        """A process for each daemon: the crawler is killed."""
        await self.check(distributed(self), "crawler")
