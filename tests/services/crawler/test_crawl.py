"""Crawls, from the job to its events."""

from __future__ import annotations

import gzip
from itertools import pairwise
from threading import Event

from twisted.internet.defer import Deferred

from msgd.cli.sample_site import EMAIL, PRICE, PRIVATE, SampleSite
from msgd.jobs.interface import State
from msgd.services.crawler import criteria
from msgd.services.crawler.crawl import READING
from msgd.services.crawler.fetch import PAGE_BYTES
from msgd.work.cancel import cancel
from msgd.work.network import Reach
from tests.services.crawler.crawls import CrawlCase, html, redirect
from tests.services.crawler.wild import FLOOD, Answer, Wild, WildServer, reactor


class SiteTests(CrawlCase):
    async def test_results(self) -> None:
        """Every page of the site is visited once, and what matches comes with its page, title and context."""
        await self.open()
        server = await self.serve(
            {
                "/": html("/a", "/b", "/a#part", "http://other.example/", title="Start", text="tea 1.00 EUR"),
                "/a": html("/", "/b", "/missing", title="Page A", text="tea 2.00 EUR, coffee 3.00 EUR, tea 2.00 EUR"),
                "/b": html("/a"),
            }
        )
        job = await self.crawl(f"{server.url}/", match=[{"name": "price", "regex": r"(\d\.\d\d) EUR"}])
        self.assertEqual(self.found(job.id), {("/", "price", "1.00"), ("/a", "price", "2.00"), ("/a", "price", "3.00")})
        self.assertEqual(server.requests, {"/": 1, "/a": 1, "/b": 1, "/missing": 1})
        pages = self.pages(job.id)
        self.assertEqual(
            {path: page["depth"] for path, page in pages.items()}, {"/": 0, "/a": 1, "/b": 1, "/missing": 2}
        )
        self.assertEqual((pages["/a"]["status"], pages["/a"]["matches"], pages["/a"]["error"]), (200, 2, None))
        self.assertEqual((pages["/missing"]["status"], pages["/missing"]["error"]), (404, "status 404"))
        (result,) = [one for one in self.events(job.id, "result") if one["value"] == "3.00"]
        self.assertEqual(result["title"], "Page A")
        self.assertIn("coffee 3.00 EUR", result["context"])
        counts = self.result(job)
        self.assertEqual([counts[name] for name in ("pages", "errors", "results", "ended")], [4, 1, 3, "complete"])
        self.assertEqual(self.world.types(job.id)[0], "started")
        self.assertEqual(self.world.types(job.id)[-1], "done")

    async def test_depth(self) -> None:
        """Only so many links deep; a page's depth is that of the shortest way to it, whichever is seen first."""

        def slow(wild: Wild) -> None:
            reactor.callLater(0.1, html("/goal"), wild)

        pages: dict[str, Answer] = {"/": html("/1", "/slow"), "/slow": slow, "/goal": html("/beyond")}
        pages.update({f"/{n}": html(f"/{n + 1}") for n in range(1, 5)})
        pages["/3"] = html("/4", "/goal")
        await self.open()
        server = await self.serve(pages)
        job = await self.crawl(f"{server.url}/", depth=3)
        depths = {path: page["depth"] for path, page in self.pages(job.id).items()}
        self.assertEqual(depths, {"/": 0, "/1": 1, "/slow": 1, "/2": 2, "/goal": 2, "/3": 3, "/beyond": 3})

    async def test_one_page(self) -> None:
        """With depth 0 the start page is all there is."""
        await self.open()
        server = await self.serve({"/": html("/a"), "/a": html()})
        job = await self.crawl(f"{server.url}/", depth=0, sitemap=True)
        self.assertEqual(server.requests, {"/": 1})
        self.assertEqual(self.result(job)["pages"], 1)

    async def test_allow_and_deny(self) -> None:
        """Patterns narrow the crawl down; the start page is crawled in any case."""
        await self.open()
        server = await self.serve({"/": html("/docs/a", "/docs/old/b", "/blog"), "/docs/a": html("/blog", "/docs/c")})
        job = await self.crawl(f"{server.url}/", allow=["/docs/"], deny=["/docs/old/"])
        self.assertEqual(set(self.pages(job.id)), {"/", "/docs/a", "/docs/c"})

    async def test_no_links(self) -> None:
        """A page that asks not to be followed is searched, and not followed."""
        await self.open()
        body = b'<meta name=robots content=nofollow><a href="/a">a</a>needle'
        server = await self.serve({"/": lambda wild: wild.answer(body)})
        job = await self.crawl(f"{server.url}/", match=[{"text": "needle"}])
        self.assertEqual((set(self.pages(job.id)), self.found(job.id)), ({"/"}, {("/", "needle", "needle")}))


class SampleTests(CrawlCase):
    async def test_sample_site(self) -> None:
        """The demo's site, with all it gets wrong, gives every price and every address on it, and not one more."""
        await self.open(robots=True)
        site = SampleSite(reactor, latency_s=0.0, slow_s=0.2)
        await site.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(site.stop()))
        match = [{"name": "price", "regex": PRICE}, {"name": "email", "regex": EMAIL}]
        job = await self.crawl(site.url, match=match, depth=site.depth, concurrency=16, sitemap=True)
        found = self.found(job.id)
        self.assertEqual({(path, value) for path, name, value in found if name == "price"}, site.prices)
        self.assertEqual({(path, value) for path, name, value in found if name == "email"}, site.emails)
        self.assertEqual(site.requests[PRIVATE], 0)


class RedirectTests(CrawlCase):
    async def test_followed(self) -> None:
        """A redirect leads to one page at the same depth, however many lead there; it is no page of its own."""
        await self.open()
        server = await self.serve(
            {
                "/": html("/old", "/older", "/new"),
                "/older": redirect("/old", "308 Moved"),
                "/old": redirect("new", "302 Found"),
                "/new": html(text="needle"),
            }
        )
        job = await self.crawl(f"{server.url}/", depth=1, match=[{"text": "needle"}])
        self.assertEqual(self.found(job.id), {("/new", "needle", "needle")})
        self.assertEqual(server.requests, {"/": 1, "/old": 1, "/older": 1, "/new": 1})
        self.assertEqual(self.pages(job.id)["/old"]["status"], 302)
        counts = self.result(job)
        self.assertEqual((counts["pages"], counts["redirects"], counts["errors"]), (2, 2, 0))

    async def test_loops(self) -> None:
        """Loops end by themselves, endless chains after ten hops: an error of that page."""
        await self.open()
        pages: dict[str, Answer] = {f"/chain{n}": redirect(f"/chain{n + 1}") for n in range(30)}
        pages |= {"/": html("/self", "/ping", "/chain0", "/void", "/mail"), "/self": redirect("/self")}
        pages |= {
            "/ping": redirect("/pong"),
            "/pong": redirect("/ping"),
            "/void": redirect(""),
            "/mail": redirect("mailto:x"),
        }
        server = await self.serve(pages)
        job = await self.crawl(f"{server.url}/")
        seen = self.pages(job.id)
        self.assertEqual(seen["/self"]["error"], "redirects to itself")
        self.assertEqual((seen["/ping"]["error"], seen["/pong"]["error"]), (None, None))
        self.assertEqual(seen["/chain10"]["error"], "more than 10 redirects")
        self.assertNotIn("/chain11", seen)
        self.assertIn("which is no page", seen["/void"]["error"])
        self.assertIn("mailto:x", seen["/mail"]["error"])

    async def test_start(self) -> None:
        """The start page may redirect to another site: that is the one that is meant."""
        await self.open()
        target = await self.serve({"/home": html("/a", text="needle"), "/a": html()})
        server = await self.serve({"/": redirect(f"{target.url}/home")})
        job = await self.crawl(f"{server.url}/", match=[{"text": "needle"}])
        self.assertEqual({one["url"] for one in self.events(job.id, "result")}, {f"{target.url}/home"})
        self.assertEqual(target.requests, {"/home": 1, "/a": 1})

    async def test_outside(self) -> None:
        """Other pages may not redirect out of the site."""
        await self.open()
        target = await self.serve({"/": html()})
        server = await self.serve({"/": html("/out"), "/out": redirect(f"{target.url}/")})
        job = await self.crawl(f"{server.url}/")
        self.assertIn("outside this crawl", self.pages(job.id)["/out"]["error"])
        self.assertEqual(target.requests, {})


class GuardTests(CrawlCase):
    async def test_start(self) -> None:
        """A crawl of a private address fails, saying so, and asks for nothing."""
        await self.open(reach=Reach())
        server = await self.serve({"/": html()})
        job = await self.crawl(f"{server.url}/", state=State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.code, "address-refused")
        self.assertIn("127.0.0.1", job.error.message)
        self.assertEqual(server.requests, {})

    async def test_redirect(self) -> None:
        """A page that may be reached and redirects to an address that may not is an error of that page."""
        await self.open()
        page = "http://[::1]:9/secret"
        server = await self.serve({"/": html("/in", "/ok"), "/in": redirect(page), "/ok": html()})
        job = await self.crawl(f"{server.url}/", allow=["/", "http://[::1]:9/"])
        self.assertIn("private", self.pages(job.id)["/secret"]["error"])
        self.assertEqual(self.result(job)["pages"], 3)


class NastyTests(CrawlCase):
    async def test_pages(self) -> None:
        """Whatever a page does, it costs that page an error, and nothing else."""
        ok = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
        bomb = gzip.compress(b"<p>" + b"\0" * (3 * PAGE_BYTES))
        pages: dict[str, Answer] = {
            "/endless": lambda wild: wild.write(ok + b"\r\n").drip(b"<p>more"),
            "/huge": lambda wild: wild.write(ok + b"\r\n").for_ever(b"x" * FLOOD, times=800),
            "/announced": lambda wild: wild.write(ok + b"Content-Length: 52428800\r\n\r\n"),
            "/silent": lambda wild: None,
            "/bomb": lambda wild: wild.answer(bomb, Content_Encoding="gzip"),
            "/no-gzip": lambda wild: wild.answer(b"plain", Content_Encoding="gzip"),
            "/brotli": lambda wild: wild.answer(b"x", Content_Encoding="br"),
            "/cut-gzip": lambda wild: wild.answer(bomb[:1000], Content_Encoding="gzip"),
            "/broken-off": lambda wild: wild.write(ok + b"Content-Length: 1000\r\n\r\n<p>only").close(),
            "/bad-chunk": lambda wild: wild.write(ok + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n").close(),
            "/no-http": lambda wild: wild.write(b"\xff\xfe\x00garbage\r\n\r\n").close(),
            "/reset": lambda wild: wild.reset(),
            "/image": lambda wild: wild.answer(b"\x89PNG", content_type="image/png"),
            "/error": lambda wild: wild.answer(b"oh", status="500 Oh"),
            "/deep": lambda wild: wild.answer(b"<div>" * 50_000 + b"needle"),
        }
        good: dict[str, Answer] = {
            "/charset": lambda wild: wild.answer("needle \N{EURO SIGN} caf\xe9".encode("cp1252")),
            "/lying": lambda wild: wild.answer(b"needle \xe9\xff", content_type="text/html; charset=utf-8"),
            "/zeros": lambda wild: wild.answer(b"\0\0needle\0"),
            "/empty": lambda wild: wild.answer(b""),
            "/soup": lambda wild: wild.answer(b"<<p><a href='/last'><table><tr><b>needle</i></body><!-- "),
            "/last": html(text="needle"),
        }
        await self.open(answer_s=3.0, body_s=10.0)  # 10 MiB must come meanwhile, from this same reactor
        server = await self.serve({"/": html(*pages, *good), **pages, **good})
        job = await self.crawl(f"{server.url}/", match=[{"text": "needle"}], concurrency=16)
        seen = self.pages(job.id)
        self.assertEqual({path for path, page in seen.items() if page["error"]}, set(pages))
        self.assertEqual(
            {path for path, _, _ in self.found(job.id)}, {"/charset", "/lying", "/zeros", "/soup", "/last"}
        )
        self.assertEqual(self.result(job)["errors"], len(pages))
        for path, words in (
            ("/huge", "larger than 10 MiB"),
            ("/announced", "larger than 10 MiB"),
            ("/bomb", "more than 10 MiB"),
            ("/endless", "not ended within"),
            ("/image", "image/png"),
            ("/deep", "nested too deeply"),
            ("/cut-gzip", "in the middle"),
        ):
            self.assertIn(words, seen[path]["error"])

    async def test_slow_expression(self) -> None:
        """An expression that takes too long on a page is an error of that page; its other results stay."""
        self.patch(criteria, "REGEX_S", 0.05)
        await self.open()
        server = await self.serve({"/": html("/b", text="a" * 5000 + "!"), "/b": html(text="aaa")})
        match = [{"name": "evil", "regex": "(?:a|a?)+$"}, {"name": "good", "css": "a", "attr": "href"}]
        job = await self.crawl(f"{server.url}/", match=match)
        self.assertIn("evil", self.pages(job.id)["/"]["error"])
        self.assertEqual(self.found(job.id), {("/", "good", "/b"), ("/b", "evil", "aaa")})


class LimitTests(CrawlCase):
    async def test_max_pages(self) -> None:
        """Not one page more than asked for; redirects are no pages."""
        await self.open()
        pages: dict[str, Answer] = {f"/{n}": html() if n % 3 else redirect(f"/to{n}") for n in range(100)}
        pages |= {f"/to{n}": html() for n in range(100)}
        server = await self.serve({"/": html(*(f"/{n}" for n in range(100))), **pages})
        job = await self.crawl(f"{server.url}/", max_pages=30, concurrency=16)
        visited = [page for page in self.pages(job.id).values() if page["status"] == 200]
        self.assertEqual(len(visited), 30)
        self.assertEqual((self.result(job)["pages"], self.result(job)["ended"]), (30, "max_pages"))

    async def test_max_seconds(self) -> None:
        """A crawl ends when its time is up, with what it has found by then."""
        await self.open()
        pages: dict[str, Answer] = {f"/{n}": html(f"/{n + 1}", text="needle") for n in range(5)}
        server = await self.serve({"/": html("/0"), **pages, "/5": lambda wild: None})
        job = await self.crawl(f"{server.url}/", match=[{"text": "needle"}], max_seconds=5, depth=20)
        self.assertEqual(self.result(job)["ended"], "max_seconds")
        self.assertEqual(len(self.found(job.id)), 5)

    async def test_delay(self) -> None:
        """Requests to a host begin so many seconds apart."""
        times = self.begins()
        await self.open()
        server = await self.serve({"/": html(*(f"/{n}" for n in range(4))), **{f"/{n}": html() for n in range(4)}})
        await self.crawl(f"{server.url}/", delay=0.3)
        self.assertEqual((len(times), server.requests.total()), (5, 5))
        for earlier, later in pairwise(times):
            self.assertGreaterEqual(later - earlier, 0.3 - 1e-6)

    async def test_concurrency(self) -> None:
        """No more requests are under way at a time than asked for."""
        under_way = most = 0

        def page(wild: Wild) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)

            def answer() -> None:
                nonlocal under_way
                under_way -= 1
                wild.answer(b"x")

            reactor.callLater(0.02, answer)

        await self.open()
        server = await self.serve({"/": html(*(f"/{n}" for n in range(20))), **{f"/{n}": page for n in range(20)}})
        await self.crawl(f"{server.url}/", concurrency=3)
        self.assertEqual(most, 3)

    async def test_reading(self) -> None:
        """A page that is being read holds up no request: further ones are fetched meanwhile, but not without end."""
        asked: list[str] = []
        gate = Event()

        def page(wild: Wild) -> None:
            if not asked:
                self.crawler._means.offload.call(lambda: gate.wait(30))  # nothing more is read
            asked.append(wild.path)
            wild.answer(b"x")
            if len(asked) == READING:
                gate.set()

        await self.open(threads=1)
        paths = [f"/{n}" for n in range(READING + 1)]
        server = await self.serve({"/": html(*paths), **dict.fromkeys(paths, page)})
        job = await self.crawl(f"{server.url}/", concurrency=1)
        self.assertEqual(len(self.events(job.id, "page")), len(paths) + 1)


class SitemapTests(CrawlCase):
    def site(self, server: WildServer) -> dict[str, Answer]:
        def urls(*paths: str, outer: str = "urlset", inner: str = "url") -> bytes:
            entries = "".join(f"<{inner}><loc>{server.url}{path}</loc></{inner}>" for path in paths)
            return f"<{outer}>{entries}</{outer}>".encode()

        zipped = gzip.compress(urls("/island", "/a", "/x.pdf"))
        index = urls("/map1.xml.gz", "/broken.xml", outer="sitemapindex", inner="sitemap")
        return {
            "/robots.txt": lambda wild: wild.answer(f"Sitemap: {server.url}/index.xml\n".encode()),
            "/index.xml": lambda wild: wild.answer(index, content_type="text/xml"),
            "/map1.xml.gz": lambda wild: wild.answer(zipped, content_type="app/x"),
            "/broken.xml": lambda wild: wild.answer(urls("/before")[:-10], content_type="text/xml"),
            "/sitemap.xml": redirect("/usual.txt"),
            "/usual.txt": lambda wild: wild.answer(f"{server.url}/usual\n".encode(), content_type="text/plain"),
            "/": html("/a"),
        } | {path: html() for path in ("/a", "/island", "/before", "/usual")}

    async def test_pages(self) -> None:
        """The pages of all sitemaps, named in robots.txt or at the usual place, are one link from the start."""
        await self.open(robots=True)
        server = await self.serve({})
        server.pages.update(self.site(server))
        job = await self.crawl(f"{server.url}/", sitemap=True)
        depths = {path: page["depth"] for path, page in self.pages(job.id).items()}
        self.assertEqual(depths, {"/": 0, "/a": 1, "/island": 1, "/before": 1, "/usual": 1})
        self.assertEqual((self.result(job)["pages"], self.result(job)["errors"]), (5, 0))

    async def test_off(self) -> None:
        """Without sitemap none is read."""
        await self.open(robots=True)
        server = await self.serve({})
        server.pages.update(self.site(server))
        job = await self.crawl(f"{server.url}/", sitemap=False)
        self.assertEqual(set(self.pages(job.id)), {"/", "/a"})

    async def test_missing(self) -> None:
        """A site without sitemaps has no errors for it."""
        await self.open()
        server = await self.serve({"/": html()})
        job = await self.crawl(f"{server.url}/", sitemap=True)
        self.assertEqual(server.requests, {"/": 1, "/sitemap.xml": 1})
        self.assertEqual((self.result(job)["pages"], self.result(job)["errors"]), (1, 0))


class CancelTests(CrawlCase):
    async def test_cancel(self) -> None:
        """A crawl that is cancelled hangs up at once and visits nothing more."""
        await self.open()
        server = await self.serve({"/": html("/silent", "/silent2"), "/silent": _nothing, "/silent2": _nothing})
        job = await self.submit(f"{server.url}/")
        await self.world.until(lambda: _is(server.requests["/silent2"] > 0))
        ending = Deferred.fromCoroutine(cancel(self.world.jobs, self.world.broker, self.world.clock, job))
        await self.world.until(lambda: _is(not server.open), passing_s=0.01)
        await self.world.until(lambda: _is(ending.called), passing_s=0.1)
        self.assertIs((await ending).state, State.CANCELLED)
        self.assertNotIn("done", self.world.types(job))


def _nothing(wild: Wild) -> None:
    pass


async def _is(condition: bool) -> bool:
    return condition
