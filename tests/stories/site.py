"""A site of known content on loopback, in threads of the test's own process, that can be slow on purpose."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase


class _Quiet:
    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A crawler that was killed leaves its connections broken; all else is an error of the test's."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # passed on as it came


class Site:
    """Pages by path, ``/page/0`` … in a tree, each with two prices and links to its children; counts its requests."""

    def __init__(self, pages: int, *, latency_s: float = 0.0, branching: int = 8) -> None:
        self.pages = pages
        self.requests: Counter[str] = Counter()
        self._branching = branching
        site = self

        class Pages(_Quiet, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.requests[self.path] += 1
                if latency_s:
                    time.sleep(latency_s)  # the site is slow: that is what is asked of it
                body = site.body(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

        self._server = _Server(("127.0.0.1", 0), Pages)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/page/0"

    def body(self, path: str) -> bytes | None:
        """The page at ``path``, None if there is none."""
        if not path.startswith("/page/") or not path[6:].isdecimal() or int(path[6:]) >= self.pages:
            return None
        number = int(path[6:])
        children = range(number * self._branching + 1, min((number + 1) * self._branching + 1, self.pages))
        links = "".join(f'<li><a href="/page/{child}">page {child}</a></li>' for child in children)
        return (
            f"<!doctype html><title>Page {number}</title><p>costs <b>EUR {number}.10</b> or <b>EUR {number}.20</b></p>"
            f'<ul>{links}</ul><a href="/page/0">home</a>'
        ).encode()

    def results(self) -> set[tuple[str, str]]:
        """What a crawl for ``EUR [0-9.]+`` finds: (path, value)."""
        return {(f"/page/{number}", f"EUR {number}.{cents}0") for number in range(self.pages) for cents in (1, 2)}

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Turnstile(Site):
    """A Site that gives as many different pages as it was told to; requests for others wait. So a crawl stands still in
    its middle for as long as a test wants to look at it, however fast or slow the machine is, and however often a
    request is given up meanwhile and made anew."""

    def __init__(self, pages: int, *, latency_s: float = 0.0) -> None:
        super().__init__(pages, latency_s=latency_s)
        self._given: set[str] = set()
        self._most = 0
        self._changed = threading.Condition()

    def admit(self, pages: int) -> None:
        """Give this many more."""
        with self._changed:
            self._most += pages
            self._changed.notify_all()

    def body(self, path: str) -> bytes | None:
        found = super().body(path)
        if found is not None:
            with self._changed:
                self._changed.wait_for(lambda: path in self._given or len(self._given) < self._most)
                self._given.add(path)
        return found


class HostileSite(Site):
    """Pages that mean harm: ``/page/<n>`` has the nth text as its title, in a ``<b>``, and as that one's attribute."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(len(texts))
        self._texts = texts

    def body(self, path: str) -> bytes | None:
        if super().body(path) is None:
            return None
        number = int(path[6:])
        text = html.escape(self._texts[number])
        links = "".join(f'<a href="/page/{other}">{other}</a>' for other in range(self.pages))
        page = f'<!doctype html><meta charset=utf-8><title>{text}</title><p><b data-text="{text}">{text}</b></p>{links}'
        return page.encode()


def serve(case: SynchronousTestCase, pages: int, *, latency_s: float = 0.0) -> Site:
    """A running Site that ends with the test."""
    return started(case, Site(pages, latency_s=latency_s))


AnySite = TypeVar("AnySite", bound=Site)


def started(case: SynchronousTestCase, site: AnySite) -> AnySite:
    """``site``, running until the test ends."""
    site.start()
    case.addCleanup(site.close)
    return site


def serve_folder(case: SynchronousTestCase, folder: Path) -> str:
    """The URL of a folder of files, served until the test ends."""

    class Files(_Quiet, SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

    make: Callable[..., SimpleHTTPRequestHandler] = partial(Files, directory=str(folder))
    server = _Server(("127.0.0.1", 0), make)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    case.addCleanup(server.server_close)
    case.addCleanup(server.shutdown)
    return f"http://127.0.0.1:{server.server_address[1]}/"
