"""A crawl of real HTML: Debian's python3-doc, held against an independent count over the files."""

from __future__ import annotations

import re
from collections import Counter, deque
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.stories.deployment import Deployment, distributed, embedded, logs_on_failure
from tests.stories.site import serve_folder

FOLDER = Path("/usr/share/doc/python3-doc/html")
INLINE = frozenset(
    re.findall(r"\w+", "a abbr b bdi cite code del dfn em i img ins kbd mark q s samp small span strong sub sup u var")
)
"""Elements that do not end a word: all others stand for white space."""

REGEX = r"\bPEP \d{1,4}\b"


class _Reader(HTMLParser):
    """Links and visible text with the standard library only: nothing shared with what is tested."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []
        self.text: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("a", "area") and given.get("href"):
            self.links.append(given["href"] or "")
        if tag in ("script", "style"):
            self._hidden += 1
        self._space(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._hidden = max(0, self._hidden - 1)
        self._space(tag)

    def _space(self, tag: str) -> None:
        if tag not in INLINE:
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text.append(data)


def count(root: Path, base: str, start: str) -> tuple[set[str], dict[str, set[str]]]:
    """The HTML files reachable from ``start`` (paths under ``base``), and the distinct regex matches of each."""
    pages: set[str] = set()
    matches: dict[str, set[str]] = {}
    todo = deque([start])
    seen = {start}
    while todo:
        path = todo.popleft()
        file = root / unquote(path.lstrip("/"))
        if not file.is_file() or file.suffix != ".html":
            continue
        pages.add(path)
        reader = _Reader()
        reader.feed(file.read_text("utf-8"))
        matches[path] = set(re.findall(REGEX, " ".join("".join(reader.text).split())))  # white space folds
        for link in reader.links:
            target = urlsplit(urldefrag(urljoin(base + path, link))[0])
            if f"{target.scheme}://{target.netloc}" == base and target.path not in seen:
                seen.add(target.path)
                todo.append(target.path)
    return pages, matches


class PythonDocsTests(SynchronousTestCase):
    """Pages and matches of the crawl equal those of the count."""

    timeout = 300

    def check(self, made: Deployment) -> None:
        self.assertTrue(FOLDER.is_dir(), "install Debian's python3-doc: apt-get install python3-doc")
        base = serve_folder(self, FOLDER).rstrip("/")
        pages, matches = count(FOLDER, base, "/index.html")
        made.start()
        with logs_on_failure(made):
            job = made.submit(
                "crawl", url=f"{base}/index.html", match=[{"name": "pep", "regex": REGEX}], depth=50, max_pages=5000,
                delay=0, sitemap=False,
            )  # fmt: skip
            ended = made.ended(job, seconds=240)
            self.assertEqual(ended["state"], "done", ended)
            events = made.events(f"job.{job}")
        crawled = {
            urlsplit(event["data"]["url"]).path
            for event in events
            if event["type"] == "page" and event["data"]["status"] == 200 and event["data"]["url"].endswith(".html")
        }
        self.assertEqual(crawled, pages)
        found = Counter(
            (urlsplit(event["data"]["url"]).path, event["data"]["value"])
            for event in events
            if event["type"] == "result"
        )
        wanted = {(path, value) for path, values in matches.items() for value in values}
        self.assertGreater(len(wanted), 100)
        self.assertEqual(set(found), wanted)
        self.assertEqual(max(found.values()), 1)

    def test_embedded_crawl_of_the_python_docs_equals_an_independent_count(self) -> None:
        """On the embedded defaults."""
        self.check(embedded(self))

    def test_distributed_crawl_of_the_python_docs_equals_an_independent_count(self) -> None:
        """On RabbitMQ and PostgreSQL, in separate processes."""
        self.check(distributed(self))
