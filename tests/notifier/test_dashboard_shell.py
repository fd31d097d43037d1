"""The dashboard's shell: by keyboard, in both themes, on a phone; nothing hostile runs on any page."""

from __future__ import annotations

import re
from pathlib import Path

from selenium.webdriver.common.keys import Keys
from twisted.trial.unittest import SynchronousTestCase

import msgd.notifier
from msgd.jobs.interface import Claimed, ClaimRequest, Problem, Submission, TypeInfo
from msgd.notifier.site import PAGES
from tests.notifier.pages import HOSTILE, PHONE, PagesCase
from tests.notifier.world import World, token

STATIC = Path(msgd.notifier.__file__).with_name("static")
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
LONG = "unbrokenword" * 16

_RENEW = """
const done = arguments[arguments.length - 1];
import("/static/dom.js").then(({ fill, h, renew }) => {
  const row = (id, words) => h("li", {}, h("a", { href: `#${id}`, id }, id, " ", h("b", {}, words)));
  const list = h("ul", {});
  document.body.append(list);
  fill(list, row("1", "one"), row("2", "two"));
  const links = [...list.querySelectorAll("a")];
  links[1].focus();
  renew(list, row("1", "one"), row("2", "two!"), row("3", "three"), h("li", {}, "more"));
  renew(list, row("1", "one"), row("2", "two!"), row("3", "three"));
  done({
    rows: Array.from(list.children, (one) => one.textContent),
    kept: links.map((one) => one.isConnected),
    focus: document.activeElement.id,
  });
});
"""


class PagesTest(SynchronousTestCase):
    """The list of pages."""

    def test_served(self) -> None:
        """Each page of the navigation is an address that is served, and each served one is in the navigation."""
        listed = re.findall(r'path: "/(\w*)"', (STATIC / "pages.js").read_text())
        self.assertEqual(sorted(listed), sorted(["", *PAGES]))


class ShellTest(PagesCase):
    """What stands around every page."""

    async def test_keyboard(self) -> None:
        """The first Tab offers to skip the navigation; every page is reached and shown by keys alone."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.go(chromium, world, "/jobs")
        await self.script(chromium, "document.activeElement.blur()")
        await self.keys(chromium, Keys.TAB)
        self.assertEqual(await self.script(chromium, "return document.activeElement.textContent"), "Skip to content")
        await self.keys(chromium, Keys.ENTER)
        self.assertEqual(await self.script(chromium, "return document.activeElement.id"), "main")
        for path, heading in (
            ("/", "Crawl a site"),
            ("/jobs", "Jobs"),
            ("/rooms", "Rooms"),
            ("/notifications", "Notifications"),
            ("/topics", "Topics"),
        ):  # those of services are tested with them
            await self.script(chromium, f"document.querySelector('#nav a[href=\"{path}\"]').focus()")
            self.assertTrue(await self.script(chromium, "return document.activeElement.matches(':focus-visible')"))
            await self.keys(chromium, Keys.ENTER)
            await chromium.wait_for_texts("main h1", lambda texts, wanted=heading: list(texts) == [wanted])  # type: ignore[misc]  # mypy infers no default
            current = await chromium.texts("#nav [aria-current=page] > span:first-child")
            self.assertEqual(len(current), 1)
        self.assertEqual(await chromium.complaints(), [])

    async def test_no_such(self) -> None:
        """Where there is no page, no mail or no room that is said, with a way on, and nothing else is offered."""
        world = await self.recording()
        chromium = await self.visitor(world)
        for path, words, way in (
            ("/nosuch", "There is no such page", "/"),
            ("/jobs/some/more", "There is no such page", "/"),
            ("/jobs/nosuch", "There is no such job", "/jobs"),
            ("/mail/nosuch", "There is no such mail", "/mail"),
            ("/rooms/nosuch", "There is no such room", "/rooms"),
        ):
            await self.go(chromium, world, path)
            await chromium.wait_for_texts(".empty :is(h1, h2)", lambda texts, wanted=words: list(texts) == [wanted])  # type: ignore[misc]  # mypy infers no default
            ways = "return Array.from(document.querySelectorAll('.empty a.button'), one => one.getAttribute('href'))"
            self.assertEqual(await self.script(chromium, ways), [way])
            offered = "return document.querySelectorAll('main #say, main .button.danger').length"
            self.assertEqual(await self.script(chromium, offered), 0, path)
        await self.go(chromium, world, "/nosuch")
        await chromium.click(".empty a.button")
        await chromium.wait_for_texts("main h1", lambda texts: list(texts) == ["Crawl a site"])

    async def test_list_of_jobs(self) -> None:
        """Each type counts what it has, one or many, and is told by what it is about; on a phone all filters show."""
        world = await self.recording()
        for name in ("mail", "webhook", "thumbnail"):
            await world.jobs.announce(TypeInfo(name=name))
        hook = "https://a.example/hook"
        for type_, params in (
            ("mail", {"subject": "News for {{ name }}", "to": [{"email": f"{who}@a.example"} for who in "ab"]}),
            ("mail", {"subject": "{{ what }} is paid", "to": [{"email": "a@a.example", "vars": {"what": "17"}}]}),
            ("webhook", {"event": "invoice.paid", "url": hook}),
            ("webhook", {"event": "invoice.paid", "endpoint": "ep1"}),
            ("thumbnail", {"upload": "u1"}),
        ):
            status, answer, _ = await world.call("POST", "/api/jobs", {"type": type_, "params": params})
            self.assertEqual(status, 202, answer)
        chromium = await self.visitor(world)
        await self.resize(chromium, *PHONE)
        await self.go(chromium, world, "/jobs")
        titles = await chromium.wait_for_texts(".list-title", lambda texts: len(texts) == 5)
        self.assertEqual(
            sorted(titles),
            [
                "17 is paid",
                "News for {{ name }}",
                "Pictures of upload u1",
                "invoice.paid to endpoint ep1",
                f"invoice.paid to {hook}",
            ],
        )
        notes = sorted(await chromium.texts(".list-note"))
        self.assertEqual(notes, ["mail", "mail", "thumbnail", "webhook", "webhook"])
        edges = "return Array.from(document.querySelectorAll('.chip'), one => one.getBoundingClientRect().right)"
        self.assertLessEqual(max(await self.script(chromium, edges)), PHONE[0])
        script = (
            "const done = arguments[arguments.length - 1];"
            "import('/static/format.js').then(({ counted }) => done([counted(1, 'pages'), counted(2000, 'pages'),"
            " counted(1, 'entry|entries'), counted(0, 'entry|entries')]))"
        )
        counted = await chromium.run(lambda driver: driver.execute_async_script(script))
        self.assertEqual(counted, ["1 page", "2,000 pages", "1 entry", "0 entries"])

    async def test_retrying(self) -> None:
        """A job between two tries says so, and when the next one is, in the list and on its page."""
        world = await self.recording()
        job = (
            await world.jobs.submit(Submission(type="crawl", params=b'{"url": "http://a.example/"}', owner="ann"))
        ).job
        claimed = await world.jobs.claim(ClaimRequest(job.id, 0, "w", redelivered=False))
        assert isinstance(claimed, Claimed)
        await world.jobs.retry(claimed.claim, Problem("peer", "it is away"), 86_400.0, attempts=8)
        chromium = await self.visitor(world)
        made = (
            "const [time, now, done] = arguments;"
            "import('/static/format.js').then(({ nextTry }) =>"
            " done(nextTry({ state: 'queued', attempt: 1, not_before: time }, now ?? undefined)))"
        )

        async def next_try(time: str, now_ms: int | None = None) -> str:
            found = await chromium.run(lambda driver: driver.execute_async_script(made, time, now_ms))
            return str(found)

        _, shown, _ = await world.call("GET", f"/api/jobs/{job.id}")
        again = await next_try(shown["not_before"])
        self.assertRegex(again, "^next try at .")
        await self.go(chromium, world, "/jobs")
        await chromium.wait_for_texts(".list-state", lambda texts: list(texts) == ["Retrying"])
        self.assertEqual(await chromium.texts(".list-note"), [f"crawl · {again}, trying again after: it is away"])
        await self.go(chromium, world, f"/jobs/{job.id}")
        await chromium.wait_for_texts("#state", lambda texts: list(texts) == [f"Retrying, {again}"])
        # Of today the time to the second; a try that is due has none. The zone is the browser's own.
        noon = await self.script(chromium, "return new Date(2030, 1, 3, 12, 0, 0).getTime()")
        time = await self.script(chromium, "return new Date(2030, 1, 3, 13, 4, 5).toISOString()")
        self.assertEqual(await next_try(time, noon), "next try at 13:04:05")
        self.assertEqual(await next_try(time, noon + 86_400_000), "")

    async def test_renewed(self) -> None:
        """What is brought up to date keeps what is as it was: a press of it that is under way, and the focus in it."""
        chromium = await self.visitor(await self.recording())
        found = await chromium.run(lambda driver: driver.execute_async_script(_RENEW))
        self.assertEqual(found, {"rows": ["1 one", "2 two!", "3 three"], "kept": [True, True], "focus": "2"})

    async def test_theme(self) -> None:
        """The system's theme counts until another one is chosen, which this browser keeps."""
        world = await self.recording()
        chromium = await self.visitor(world)
        paper = "return getComputedStyle(document.body).backgroundColor"
        await self.prefer(chromium, "light")
        light = await self.script(chromium, paper)
        await self.prefer(chromium, "dark")
        dark = await self.script(chromium, paper)
        self.assertNotEqual(light, dark)
        await chromium.click("#theme")
        self.assertEqual(await self.script(chromium, paper), light)
        self.assertEqual(await chromium.text("#theme"), "Theme: light")
        await chromium.reload()
        self.assertEqual(await self.script(chromium, paper), light)
        await self.prefer(chromium, "light")
        await chromium.click("#theme")
        self.assertEqual(await self.script(chromium, paper), dark)

    async def test_session_ends(self) -> None:
        """Who is signed out in the middle of something signs in again, and is back on the same page."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.go(chromium, world, "/rooms")
        await chromium.run(lambda driver: driver.delete_all_cookies())
        await chromium.click("#new-room")
        await chromium.fill("#room-title", "Attic")
        await chromium.click("dialog .button.main")
        await chromium.wait_for_texts("main .notice.wait", lambda texts: any("has ended" in text for text in texts))
        await chromium.fill("#token", token("ann"))
        await chromium.click("button.main")
        await chromium.wait_for_texts("main h1", lambda texts: list(texts) == ["Rooms"])

    async def test_on_a_phone(self) -> None:
        """No page is wider than a phone, whatever stands on it; the navigation is a menu, which Escape closes."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.fill_with(world, LONG)
        await self.resize(chromium, *PHONE)
        for scheme in ("light", "dark"):
            await self.prefer(chromium, scheme)
            for path, css, words in self.places(LONG):
                await self.go(chromium, world, path)
                await chromium.wait_for_texts(css, lambda texts, part=words: any(part in text for text in texts))  # type: ignore[misc]  # mypy infers no default
                self.assertEqual(await self.script(chromium, OVERFLOW), 0, path)
        await chromium.click("#menu")
        self.assertTrue(await self.script(chromium, "return document.querySelector('#nav').offsetParent !== null"))
        await self.keys(chromium, Keys.ESCAPE)
        self.assertEqual(await self.script(chromium, "return document.activeElement.id"), "menu")
        self.assertTrue(await self.script(chromium, "return document.querySelector('#nav').offsetParent === null"))
        self.assertEqual(await chromium.complaints(), [])

    async def test_nothing_runs(self) -> None:
        """What is hostile in titles, messages, events, jobs and names is shown as text; no policy is violated."""
        world = await self.recording()
        chromium = await self.visitor(world)
        await self.fill_with(world, HOSTILE)
        for path, css, words in self.places(HOSTILE):
            await self.go(chromium, world, path)
            await chromium.wait_for_texts(css, lambda texts, part=words: any(part in text for text in texts))  # type: ignore[misc]  # mypy infers no default
            self.assertIsNone(await self.script(chromium, "return window.ran"), path)
        await self.go(chromium, world, "/notifications")
        await chromium.click(".notice-row")
        self.assertIn(HOSTILE, await chromium.text("dialog"))
        self.assertEqual(await self.script(chromium, "return document.querySelectorAll('dialog a').length"), 0)
        self.assertIsNone(await self.script(chromium, "return window.ran"))
        self.assertEqual(await chromium.complaints(), [])

    # -- a world full of one text ------------------------------------------------------------------------------------

    async def fill_with(self, world: World, text: str) -> None:
        """Put ``text`` wherever somebody can put one."""
        room = {"name": "attic", "title": text[:200], "description": text, "members": ["ann", text[:60]]}
        self.assertEqual((await world.call("POST", "/api/rooms", room))[0], 201)
        for topic, who in (("room.attic", text[:60]), ("user.ann", text[:60])):
            await self.publish(world, topic, "message", {"text": text}, who=who)
        data = {"title": text, "text": text, "url": f"javascript:window.ran=3//{text}", text: text}
        await self.publish(world, "app.attic", text[:100], data, who=text[:60])
        self.assertEqual((await world.call("POST", "/api/jobs", {"type": "crawl", "params": {"url": text}}))[0], 202)

    @staticmethod
    def places(text: str) -> list[tuple[str, str, str]]:
        """Pages, and where on them the text shows once they are loaded."""
        part = text[:30]
        return [
            ("/", ".list-title", part),
            ("/jobs", ".list-title", part),
            ("/rooms", ".talks-row", part),
            ("/rooms/attic", ".talk-text", part),
            ("/rooms/%40" + "".join(f"%{ord(one):02x}" for one in text[:60]), ".talk-text", part),
            ("/notifications", ".notice-title", part),
            ("/topics", "main h2", "Watch"),
            ("/topics?topic=app.%23&since=0", ".grid-row .soft", part),
        ]
