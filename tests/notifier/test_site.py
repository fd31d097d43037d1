"""The dashboard's files and their headers."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import msgd.notifier
from msgd.notifier.site import TYPES, policy
from tests.notifier.world import WorldCase, header

STATIC = Path(msgd.notifier.__file__).with_name("static")


class FilesTest(SynchronousTestCase):
    """What is in ``static``."""

    def test_nothing_inline(self) -> None:
        """The page has no inline script, style or handler: the policy would not run them."""
        page = (STATIC / "index.html").read_text()
        self.assertNotIn("<style", page)
        self.assertEqual(re.findall(r"<script(?![^>]* src=)", page), [])
        self.assertEqual(re.findall(r"\s(?:style|on\w+)=", page), [])

    def test_nothing_parses_html(self) -> None:
        """No script turns text into HTML or code: what a crawled page contains stays text."""
        for path in STATIC.glob("*.js"):
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
                self.assertNotIn(word, path.read_text(), path.name)

    def test_references(self) -> None:
        """Every file that another one names is there, and every file is named by one."""
        named = {"index.html"}
        for path in STATIC.iterdir():
            if path.suffix in (".js", ".html"):
                named.update(
                    re.findall(r'["(]\.?/(?:static/)?([\w.-]+\.(?:js|css|svg|ts|html))["?)]', path.read_text())
                )
        self.assertEqual(named, {path.name for path in STATIC.iterdir()})
        self.assertTrue(all(path.suffix[1:] in TYPES for path in STATIC.iterdir()))


class SiteTest(WorldCase):
    """How it is served."""

    async def test_pages(self) -> None:
        """The dashboard's addresses all give the page, to strangers too: it shows the sign-in."""
        world = await self.world()
        for path in ("/", "/jobs", "/jobs/abc"):
            status, body, response = await world.call("GET", path, who=None)
            self.assertEqual(status, 200)
            self.assertIn(b"<!doctype html>", body)
            self.assertEqual(header(response, "content-type"), "text/html; charset=utf-8")

    async def test_policy(self) -> None:
        """A strict Content-Security-Policy stands on it; the host is named only where its header is well-formed."""
        world = await self.world()
        _, _, response = await world.call("GET", "/", who=None)
        found = header(response, "content-security-policy")
        self.assertIn("default-src 'none'; script-src 'self'; style-src 'self'", found)
        self.assertIn(f"connect-src 'self' ws://127.0.0.1:{world.port} wss://127.0.0.1:{world.port};", found)
        self.assertIn("frame-ancestors 'none'", found)
        self.assertNotIn("unsafe", found)
        self.assertIn("connect-src 'self';", policy("evil.example; script-src *"))
        self.assertIn("ws://[::1]:8080", policy("[::1]:8080"))

    async def test_unchanged(self) -> None:
        """A browser that has a file is told that it has not changed."""
        world = await self.world()
        _, _, response = await world.call("GET", "/msgd.js", who=None)
        tag = header(response, "etag")
        status, body, response = await world.call("GET", "/static/msgd.js", who=None, headers={"If-None-Match": tag})
        self.assertEqual((status, body, header(response, "etag")), (304, b"", tag))
        status, _, _ = await world.call("GET", "/msgd.js", who=None, headers={"If-None-Match": '"old"'})
        self.assertEqual(status, 200)

    async def test_no_page(self) -> None:
        """A browser is shown at any other address that there is no page; whoever else asks, and where the API is, gets
        the problem."""
        world = await self.world()
        pages = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        status, body, response = await world.call("GET", "/nosuch/at/all", who=None, headers=pages)
        self.assertEqual((status, header(response, "content-type")), (404, "text/html; charset=utf-8"))
        self.assertIn(b"<!doctype html>", body)
        self.assertIn("default-src 'none'", header(response, "content-security-policy"))
        for method, path, headers in (
            ("GET", "/nosuch", {"Accept": "*/*"}),
            ("GET", "/nosuch", {}),
            ("POST", "/nosuch", pages),
            ("GET", "/api/nosuch", pages),
            ("GET", "/static/none.js", pages),
        ):
            status, _, response = await world.call(method, path, who=None, headers=headers)
            self.assertEqual((status, header(response, "content-type")), (404, "application/problem+json"), path)

    async def test_icon(self) -> None:
        """The icon is also where browsers look for it unasked."""
        world = await self.world()
        status, _, response = await world.call("GET", "/favicon.ico", who=None)
        self.assertEqual((status, header(response, "content-type")), (200, "image/svg+xml"))

    async def test_nothing_else(self) -> None:
        """No listing, no way out of the folder, no Python."""
        world = await self.world()
        for path in ("/static/", "/static", "/static/..%2fsite.py", "/static/__init__.py", "/static/none.js"):
            self.assertEqual((await world.call("GET", path, who=None))[0], 404, path)
