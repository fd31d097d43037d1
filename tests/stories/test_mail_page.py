"""The dashboard's mail page in Chromium: written, previewed, sent, watched; what is hostile runs nowhere."""

from __future__ import annotations

import os
import re

from selenium.webdriver import Chrome
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.services.mailer.worker import PART
from tests.servers.chromium import browser
from tests.stories.dashboard import Dashboard
from tests.stories.deployment import embedded, logs_on_failure

HOSTILE = """<style>p { color: rgb(1, 2, 3) }</style><p id=p onclick="top.ran=1">Hello {{ name }}</p>
<script>parent.ran = 2; top.ran = 3</script><img src=x onerror="parent.ran = 4">
<a href="javascript:parent.ran=5">x</a>"""

SHOTS = os.environ.get("MSGD_TEST_SHOTS", "")
"""A folder for pictures of the pages, for whoever wants to look at them."""


class MailPageTests(TestCase):
    """A user writes a newsletter."""

    timeout = 600

    async def shot(self, dashboard: Dashboard, name: str) -> None:
        if SHOTS:
            await dashboard.browser.run(lambda driver: driver.save_screenshot(f"{SHOTS}/{name}.png"))

    async def test_newsletter(self) -> None:
        """Preview, wrong input, confirm, live counts, recipients; the suppressions; on a phone, in the dark."""
        made = embedded(self, more='[mail]\nunsubscribe = "https://msgd.example.com"\nrate = 20.0\n')
        await deferToThread(made.start)
        token = await deferToThread(made.token)
        chromium = await browser(self, reactor)
        dashboard = Dashboard(chromium, made.url)
        with logs_on_failure(made):
            await dashboard.sign_in(token)
            await dashboard.go("/mail")
            await self.shot(dashboard, "mail-empty")
            await chromium.click("form.panel button.main")
            await chromium.wait_for_texts("#to-wrong", lambda texts: texts == ["Give an address, or choose a list."])
            await chromium.fill("#to", "\n".join(f"Person {n} <p{n}@example.com>" for n in range(60)))
            await chromium.wait_for_texts("#to-wrong, [aria-invalid]", lambda texts: not texts)
            await chromium.fill("#subject", "Hello {{ town }}")
            await chromium.fill("#text", "Hello {{ name }}")
            await chromium.wait_for_texts(
                ".mail-preview [role=status]", lambda texts: "'town' is undefined" in texts[0]
            )
            await self.shot(dashboard, "mail-wrong")
            await chromium.fill("#subject", "Hello {{ name }}")
            await chromium.click("form.panel summary")
            await chromium.fill("#html", HOSTILE)
            await chromium.wait_for_texts(".mail-head dd", lambda texts: "Hello Person 0" in texts)
            await self.check_frame(dashboard)
            await self.shot(dashboard, "mail-written")
            await chromium.click("form.panel button.main")
            await chromium.wait_for_texts("dialog strong", lambda texts: texts == ["Hello {{ name }}", "60 recipients"])
            await self.shot(dashboard, "mail-confirm")
            await chromium.click("dialog button.main")
            await chromium.wait(lambda driver: "/mail/" in driver.current_url, "the mail's page")
            await chromium.wait_for_texts(".mail-row strong", lambda texts: len(texts) == 60)
            await self.shot(dashboard, "mailing-running")
            await chromium.wait_for_texts("h1 + span .state, .cluster .state", lambda texts: texts[:1] == ["Done"])
            await chromium.wait_for_texts(".chip", lambda texts: texts == ["All 60", "Sent 60"])
            await self.shot(dashboard, "mailing-done")
            await dashboard.go("/mail")
            await chromium.fill("#suppressed-email", "nobody@example.com")
            await chromium.click(".mail-tools button")
            await chromium.wait_for_texts(
                "[aria-label='Suppressed addresses'] strong", lambda texts: texts == ["nobody@example.com"]
            )
            await chromium.run(_phone)
            for path in ("/mail",):
                await dashboard.go(path)
                await chromium.wait_for_texts(".mail-row strong", lambda texts: texts == ["nobody@example.com"])
                self.assertFalse(await dashboard.overflows(), path)
            await self.shot(dashboard, "mail-phone")
            await chromium.run(_dark)
            await dashboard.go("/mail")
            await dashboard.until("h1", "Mail")
            await self.shot(dashboard, "mail-phone-dark")
            complaints = [one for one in await chromium.complaints() if "mail_preview" not in one and "400" not in one]
            self.assertEqual(complaints, [])

    async def test_job_of_a_split_mail(self) -> None:
        """The page of its job shows how far its parts are together, though the job itself only waits for them."""
        made = embedded(self, more="[mail]\nrate = 2.0\n")
        await deferToThread(made.start)
        token = await deferToThread(made.token)
        to = [{"email": f"p{number}@example.com"} for number in range(PART + 1)]
        chromium = await browser(self, reactor)
        dashboard = Dashboard(chromium, made.url)
        with logs_on_failure(made):
            await dashboard.sign_in(token)
            job = await deferToThread(made.submit, "mail", to=to, subject="x", text="y")
            await dashboard.go(f"/jobs/{job}")
            some = re.compile(rf"[1-9]\d* of {PART + 1:,}")
            await chromium.wait_for_texts(
                "[data-figure=Recipients] dd", lambda texts: any(some.fullmatch(one) for one in texts)
            )
            await chromium.wait_for_texts("#state", lambda texts: texts == ["Waiting"])
            self.assertEqual(await chromium.complaints(), [])

    async def check_frame(self, dashboard: Dashboard) -> None:
        """The HTML is shown with its style, and nothing in it has run."""

        def shown(driver: Chrome) -> bool:
            driver.switch_to.frame(driver.find_element("css selector", "iframe.mail-frame"))
            try:
                found = driver.find_element("css selector", "#p")
                return found.text == "Hello Person 0" and found.value_of_css_property("color") == "rgba(1, 2, 3, 1)"
            finally:
                driver.switch_to.default_content()

        await dashboard.browser.wait(shown, "the preview")
        ran = await dashboard.browser.run(lambda driver: driver.execute_script("return window.ran ?? null"))
        self.assertIsNone(ran)


def _phone(driver: Chrome) -> None:
    driver.set_window_size(500, 900)


def _dark(driver: Chrome) -> None:
    features = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
