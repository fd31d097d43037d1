"""A site to crawl, served on loopback by ``msgd demo`` and by tests: ``sample_pages``, and what real sites get wrong.

Links to nowhere, redirects (and a loop of them), a robots.txt that keeps robots out of one folder, a sitemap with pages
that no link leads to, a slow page, pages in four encodings, and a file that is no page.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final
from xml.sax.saxutils import escape

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from msgd.cli.sample_pages import DOMAIN, Page, make_pages, make_redirects

LATENCY_S: Final = 0.1
"""How long a page takes: what it takes from another continent, so that the progress bar can be seen to grow."""

SLOW_S: Final = 3.0

DEPTH: Final = 6
"""Links from the first page to the farthest."""

PRICE: Final = r"€\d+\.\d\d"
EMAIL: Final = r"[\w.]+@[\w.]+\.example"

PRIVATE: Final = "/private/ledger"
SECRET: Final = f"robots.must.not.see@{DOMAIN}"
"""An address in the folder that robots.txt forbids."""

LEDGER: Final = f"<!doctype html><title>Ledger</title><p>{SECRET}".encode()
CATALOGUE: Final = b"PK\x05\x06" + bytes(18) + "€1.00".encode()
"""An archive, with a price in it that is on no page."""

STYLE: Final = b"""body { font: 17px/1.5 Georgia, serif; max-width: 42em; margin: 2em auto; padding: 0 1em; color: #223}
header { display: flex; justify-content: space-between; border-bottom: 1px solid #ccd; padding-bottom: .5em }
a { color: #2a6b4f } h1 { font-weight: normal } li { margin: .3em 0 }
"""


class SampleSite:
    """The site. Not served until :meth:`start`.

    ``pages`` holds all that a correct crawl of it finds; ``requests`` counts what was asked for, by path.
    """

    depth = DEPTH

    def __init__(self, reactor: Any, *, latency_s: float = LATENCY_S, slow_s: float = SLOW_S) -> None:
        self.pages = make_pages()
        self.redirects = make_redirects()
        self.requests: Counter[str] = Counter()
        self.latency_s = latency_s
        self.slow_s = slow_s
        self.reactor = reactor
        self._port: Any = None

    @property
    def url(self) -> str:
        """Where the crawl begins."""
        if self._port is None:
            raise RuntimeError("the sample site is not started")
        return f"http://127.0.0.1:{self._port.getHost().port}/"

    @property
    def prices(self) -> set[tuple[str, str]]:
        """All (path, price) that a search for PRICE finds."""
        return {(page.path, price) for page in self.pages.values() for price in page.prices}

    @property
    def emails(self) -> set[tuple[str, str]]:
        """All (path, address) that a search for EMAIL finds."""
        return {(page.path, email) for page in self.pages.values() for email in page.emails}

    async def start(self) -> None:
        """Serve it on a free port of loopback."""
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self._port = await endpoint.listen(Site(_Pages(self)))

    async def stop(self) -> None:
        """Serve it no more. Stopping twice, or what never started, is harmless."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()


class _Pages(Resource):
    """All answers of the site."""

    isLeaf = True

    def __init__(self, site: SampleSite) -> None:
        super().__init__()
        self._site = site

    def render_GET(self, request: Request) -> bytes | int:
        path = request.uri.decode("ascii", "replace")
        self._site.requests[path] += 1
        page = self._site.pages.get(path)
        target = self._site.redirects.get(path)
        if page is not None:
            return self._later(request, page)
        if target is not None:
            request.setResponseCode(301)
            request.setHeader(b"location", target.encode())
            return b""
        return self._file(request, path)

    def _later(self, request: Request, page: Page) -> int:
        def answer() -> None:
            request.setHeader(b"content-type", page.content_type.encode())
            request.setHeader(b"content-length", str(len(page.body)).encode())
            if request.method != b"HEAD":
                request.write(page.body)
            request.finish()

        seconds = self._site.slow_s if page.slow else self._site.latency_s
        pending = self._site.reactor.callLater(seconds, answer)
        # Whoever hangs up does not get an answer.
        request.notifyFinish().addErrback(lambda _: pending.active() and pending.cancel())
        return NOT_DONE_YET

    def _file(self, request: Request, path: str) -> bytes:
        answers = {
            "/robots.txt": ("text/plain", self._robots()),
            "/sitemap.xml": ("application/xml", self._sitemap()),
            "/style.css": ("text/css", STYLE),
            "/files/catalogue": ("application/zip", CATALOGUE),
            PRIVATE: ("text/html", LEDGER),
        }
        if path not in answers:
            request.setResponseCode(404)
            request.setHeader(b"content-type", b"text/html")
            return b"<!doctype html><title>Not here</title><p>We have looked everywhere."
        content_type, body = answers[path]
        request.setHeader(b"content-type", content_type.encode())
        return body

    def _robots(self) -> bytes:
        return f"User-agent: *\nDisallow: /private/\n\nSitemap: {self._site.url}sitemap.xml\n".encode()

    def _sitemap(self) -> bytes:
        urls = (self._site.url + page.path[1:] for page in self._site.pages.values() if page.listed)
        entries = "".join(f"<url><loc>{escape(url)}</loc></url>" for url in urls)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'
        ).encode()
