"""The dashboard's files: read once, served from memory with strict headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Final

from msgspec import Struct

from msgd.errors import NotFound
from msgd.notifier.interface import Answer, Call, Route

TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""What there is in ``static``; nothing else is served."""

PAGES: Final = ("/", "/jobs", "/jobs/{id}")
"""Addresses of the dashboard; the page itself finds out which of them it is at."""

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
        pages = [Route(method="GET", path=path, endpoint=self.page, open=True, produces=()) for path in PAGES]
        return (
            *pages,
            Route(method="GET", path="/static/{name}", endpoint=self.file, open=True, produces=()),
            Route(method="GET", path="/msgd.js", endpoint=self.client, open=True, produces=()),
        )

    async def page(self, call: Call) -> Answer:
        """The one page of the dashboard."""
        return self._answer(call, "index.html")

    async def file(self, call: Call) -> Answer:
        """What the page is made of."""
        return self._answer(call, call.words["name"])

    async def client(self, call: Call) -> Answer:
        """The client module, at an address of its own: other pages may use it too."""
        return self._answer(call, "msgd.js")

    def _answer(self, call: Call, name: str) -> Answer:
        found = self._files.get(name)
        if found is None:
            raise NotFound("there is no such file", where="path")
        headers = {
            "etag": found.tag,
            "cache-control": "no-cache",  # kept, but asked for: a new version counts at the next load
            "content-security-policy": policy(call.header("host")),
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
            "cross-origin-opener-policy": "same-origin",
        }
        if found.tag in (tag.strip().removeprefix("W/") for tag in call.header("if-none-match").split(",")):
            return Answer(status=304, content_type="", headers=headers)
        return Answer(body=found.body, content_type=found.content_type, headers=headers)


def policy(host: str) -> str:
    """The Content-Security-Policy: our own files and our own WebSocket, nothing inline, no frames.

    ``'self'`` does not cover ws: in older browsers, so the host is named where its header is well-formed.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
