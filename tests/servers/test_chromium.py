"""The browser that the story tests look through: what it must see for them to mean anything."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tests.servers.chromium import Chromium, browser

PAGE = b"""<!doctype html><meta charset=utf-8><title>t</title><h1>Caf\xc3\xa9</h1>
<input id=name><button id=go>go</button><ul></ul><a id=csv href=/list.csv download>csv</a>
<script src=/page.js></script><script>document.title = "inline"</script>"""

SCRIPT = b"""document.cookie = "seen=yes; max-age=1000"
document.querySelector("#go").addEventListener("click", () => setTimeout(() => {
  const row = document.createElement("li")
  row.textContent = document.querySelector("#name").value
  document.querySelector("ul").append(row)
}, 50))"""


class Pages(Resource):
    """A page with a script of its own, an inline script that its policy forbids, and a download."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        answers: dict[bytes, tuple[bytes, bytes]] = {
            b"/": (b"text/html", PAGE),
            b"/page.js": (b"text/javascript", SCRIPT),
            b"/list.csv": (b"text/csv", b"a,b\r\n1,2\r\n"),
        }
        cookie: bytes | None = request.getCookie(b"seen")
        kind, body = answers.get(request.path, (b"text/plain", cookie or b"no cookie"))
        request.setHeader(b"content-type", kind)
        request.setHeader(b"content-security-policy", b"script-src 'self'")
        return body


class ChromiumTest(TestCase):
    """A browser and a page served by this very process."""

    async def test_page(self) -> None:
        """It runs scripts, sees rows as they come, downloads, keeps its profile, and reports a violated policy."""
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(Pages()))
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}"

        first = await browser(self, reactor)
        await first.open(f"{url}/")
        self.assertEqual(await first.text("h1"), "Café")
        self.assertIn("Content Security Policy", " ".join(await first.complaints()))
        self.assertEqual(await first.run(lambda driver: driver.title), "t")
        await first.fill("#name", "Zürich")
        await first.click("#go")
        self.assertEqual(await first.wait_for_texts("li", lambda rows: len(rows) == 1), ["Zürich"])
        self.assertEqual(await first.download("#csv"), b"a,b\r\n1,2\r\n")
        with self.assertRaisesRegex(AssertionError, "waited 0.2 s for the moon(?s:.)*Café"):
            await first.wait(lambda driver: False, "the moon", seconds=0.2)
        await first.close(keep_profile=True)

        second = Chromium(reactor, first.profile)
        await second.start()
        try:
            await second.open(f"{url}/cookie")
            self.assertEqual(await second.text("body"), "yes")
        finally:
            await second.close()
