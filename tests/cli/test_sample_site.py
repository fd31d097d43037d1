"""The sample site holds what it says: walked here link by link, without the crawler."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree as ET

from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from msgd.cli.sample_pages import CATEGORIES, LANGUAGES, OLD_NUMBERS, make_pages
from msgd.cli.sample_site import EMAIL, PRICE, PRIVATE, SECRET, SampleSite


class _Reader(HTMLParser):
    """The links and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if (tag, name) == ("a", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


class SampleSiteTest(TestCase):
    """Its pages over HTTP."""

    def setUp(self) -> None:
        self.site = SampleSite(reactor, latency_s=0, slow_s=0.01)
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        self.agent = Agent(reactor, pool=pool)

    async def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, the header that matters (content type, or location), and body."""
        answer = await self.agent.request(b"GET", urljoin(self.site.url, path).encode())
        name = "location" if 300 <= answer.code < 400 else "content-type"
        return answer.code, answer.headers.getRawHeaders(name)[0], await readBody(answer)

    async def walk(self) -> tuple[dict[str, str], dict[str, int]]:
        """The text of every page that links lead to, by path, and the status of all else."""
        texts: dict[str, str] = {}
        others: dict[str, int] = {}
        todo = ["/"]
        while todo:
            path = todo.pop()
            status, header, body = await self.get(path)
            if status != 200 or not header.startswith("text/html"):
                others[path] = status
                targets = [header] if status == 301 else []
            else:
                found = re.search(rb'charset="?([\w-]+)', header.encode() + body)
                assert found is not None, path
                page = _Reader()
                page.feed(body.decode(found[1].decode()))
                texts[path] = page.text
                targets = page.links
            for target in targets:
                url = urlsplit(urljoin(urljoin(self.site.url, path), target))
                if f"{url.scheme}://{url.netloc}/" == self.site.url and url.path != PRIVATE:
                    inner = url.path + (f"?{url.query}" if url.query else "")
                    if inner not in texts and inner not in others and inner not in todo:
                        todo.append(inner)
        return texts, others

    async def test_pages_links_and_matches(self) -> None:
        """Following links reaches every page but those of the sitemap, and finds the prices and addresses stated."""
        await self.site.start()
        self.addCleanup(self.site.stop)
        texts, others = await self.walk()
        hidden = {f"/magazine/old/{number}" for number in range(1, OLD_NUMBERS + 1)}
        self.assertEqual(set(texts), set(self.site.pages) - hidden)
        for expression, stated in ((PRICE, self.site.prices), (EMAIL, self.site.emails)):
            found = {(path, value) for path, text in texts.items() for value in re.findall(expression, text)}
            self.assertEqual(found, {one for one in stated if one[0] not in hidden})
        self.assertEqual({path for path, status in others.items() if status == 404}, {"/gone"})
        self.assertEqual({path for path, status in others.items() if status == 301}, set(self.site.redirects))
        self.assertEqual(others["/files/catalogue"], 200)

        status, _, sitemap = await self.get("/sitemap.xml")
        names = {urlsplit(one.text or "").path for one in ET.fromstring(sitemap).iter() if one.tag[-3:] == "loc"}
        self.assertEqual((status, names & set(self.site.pages)), (200, names))
        self.assertLessEqual(hidden, names)

        self.assertIn(f"Disallow: {PRIVATE.rpartition('/')[0]}/", (await self.get("/robots.txt"))[2].decode())
        self.assertIn(SECRET, (await self.get(PRIVATE))[2].decode())
        self.assertEqual(self.site.requests["/"], 1)

    async def test_stopped(self) -> None:
        """A site that is stopped, even twice, answers no more."""
        await self.site.start()
        url = self.site.url
        await self.site.stop()
        await self.site.stop()
        with self.assertRaises(Refused):
            await self.agent.request(b"GET", url.encode())

    def test_same_every_time(self) -> None:
        """Two makings give the same pages, a few hundred of them, in four encodings, each page's path its own."""
        pages = make_pages()
        self.assertEqual(pages, make_pages())
        self.assertTrue(250 < len(pages) < 400, len(pages))
        self.assertEqual(len({language.encoding for language in LANGUAGES} | {"utf-8"}), 4)
        self.assertEqual(sum(path.startswith("/shop/") for path in pages), 1 + len(CATEGORIES) * (3 + 28))
