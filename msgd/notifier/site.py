"""The dashboard's files: read once, served from memory with strict headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from msgspec import Struct, structs

from msgd.errors import NotFound
from msgd.notifier.interface import Answer, Call, Route

TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "ts": "application/typescript; charset=utf-8",
}
"""What there is in ``static``; nothing else is served."""

PAGES: Final = ("jobs", "uploads", "mail", "rooms", "notifications", "rules", "webhooks", "topics")
"""Where the dashboard's pages are, beside ``/``; ``static/pages.js`` has the same list. Each may have more below it."""

PREVIEW: Final = "mail_preview.html"
PREVIEW_SCRIPT: Final = "mail_preview.js"
"""They show the HTML of a mail, in a frame of the page on which it is written."""

PREVIEW_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data: https:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""An origin of its own (sandbox), from which nothing of ours can be reached; styles and pictures, but no script beside
the one that takes the HTML in."""

_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")


class _File(Struct, frozen=True):
    body: bytes
    content_type: str
    tag: str


class DashboardSite:
    """Pages, scripts, styles."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def load(self) -> None:
        """Read the files. Blocking, a few tens of kB."""
        for entry in files("msgd.notifier").joinpath("static").iterdir():
            kind = TYPES.get(entry.name.rpartition(".")[2])
            if kind is not None:
                body = entry.read_bytes()
                tag = hashlib.blake2b(body, digest_size=12).hexdigest()
                self._files[entry.name] = _File(body, kind, f'"{tag}"')

    def routes(self) -> Sequence[Route]:
        paths = ["/", *(f"/{page}{more}" for page in PAGES for more in ("", "/{name}"))]
        pages = [Route(method="GET", path=path, endpoint=self.page, open=True, produces=()) for path in paths]
        return (
            *pages,
            Route(method="GET", path="/static/{name}", endpoint=self.file, open=True, produces=()),
            Route(method="GET", path="/favicon.ico", endpoint=self.icon, open=True, produces=()),
            Route(method="GET", path="/msgd.js", endpoint=self.client, open=True, produces=()),
            Route(method="GET", path="/msgd.d.ts", endpoint=self.client_types, open=True, produces=()),
        )

    async def page(self, call: Call) -> Answer:
        """The one page of the dashboard."""
        return self._answer(call, "index.html")

    @property
    def nothing(self) -> Route:
        """What a browser is shown at an address where there is nothing."""
        return Route(method="GET", path="/", endpoint=self.no_page, open=True, produces=())

    async def no_page(self, call: Call) -> Answer:
        """The same page, which says that there is none."""
        found = self._files["index.html"]
        headers = _headers(call, "index.html")
        return Answer(status=404, body=found.body, content_type=found.content_type, headers=headers)

    async def icon(self, call: Call) -> Answer:
        """Where browsers look for it unasked, beside pages that are none of the dashboard's."""
        return self._answer(call, "icon.svg")

    async def file(self, call: Call) -> Answer:
        """What the page is made of."""
        return self._answer(call, call.words["name"])

    async def client(self, call: Call) -> Answer:
        """The client module, at an address of its own: other pages may use it too."""
        found = self._answer(call, "msgd.js")
        return structs.replace(found, headers={**found.headers, "x-typescript-types": "./msgd.d.ts"})

    async def client_types(self, call: Call) -> Answer:
        """The types of the client module."""
        return self._answer(call, "msgd.d.ts")

    def _answer(self, call: Call, name: str) -> Answer:
        found = self._files.get(name)
        if found is None:
            raise NotFound("there is no such file", where="path")
        headers = {**_headers(call, name), "etag": found.tag}
        if found.tag in (tag.strip().removeprefix("W/") for tag in call.header("if-none-match").split(",")):
            return Answer(status=304, content_type="", headers=headers)
        return Answer(body=found.body, content_type=found.content_type, headers=headers)


def _headers(call: Call, name: str) -> dict[str, str]:
    headers = {
        "cache-control": "no-cache",  # kept, but asked for: a new version counts at the next load
        "content-security-policy": PREVIEW_POLICY if name == PREVIEW else policy(call.header("host")),
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "cross-origin-opener-policy": "same-origin",
    }
    if name == PREVIEW_SCRIPT:  # its document has no origin to be the same as
        headers["cross-origin-resource-policy"] = "cross-origin"
    return headers


def policy(host: str) -> str:
    """The Content-Security-Policy: our own files and our own WebSocket, nothing inline, no frames but our own.

    ``'self'`` does not cover ws: in older browsers, so the host is named where its header is well-formed.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{sockets}; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
