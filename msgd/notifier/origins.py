"""Whose pages may call us. Tokens in a header need no such check; a cookie travels by itself, and so does a WebSocket.

Sources: the Fetch standard (``Origin``, CORS), Fetch Metadata (``Sec-Fetch-Site``), RFC 6455 §10.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from msgd.errors import Forbidden
from msgd.notifier.interface import Asked

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """``own``: origins of the same site under other names, as behind a proxy that changes ``Host``; ``cors``: pages of
    other sites that may call the API with a token of theirs."""

    def __init__(self, own: Sequence[str] = (), cors: Sequence[str] = ()) -> None:
        self._own = frozenset(origin.lower() for origin in own)
        self._cors = frozenset(origin.lower() for origin in cors)

    def is_own(self, origin: str, asked: Asked) -> bool:
        """Whether a page of ``origin`` is ours. Where it is not known that the browser speaks TLS, only host and port
        are compared: a proxy before us may have ended it."""
        origin = origin.lower()
        if origin in self._own:
            return True
        try:
            parts = urlsplit(origin)
            default = _DEFAULT_PORTS[parts.scheme]
            if asked.secure and parts.scheme != "https":
                return False  # anybody on the way can write such a page
            host = urlsplit(f"//{asked.host.lower()}")
            return parts.hostname == host.hostname and (parts.port or default) == (host.port or default)
        except (KeyError, ValueError):
            return False  # "null", or something that is no origin

    def may_read(self, origin: str) -> bool:
        """Whether a page of another site may read our answers (CORS)."""
        return origin.lower() in self._cors

    def check_socket(self, origin: str, asked: Asked) -> None:
        """Raises Forbidden for a WebSocket from a foreign page. Clients that are no browsers send no origin."""
        if origin and not self.is_own(origin, asked) and not self.may_read(origin):
            raise Forbidden(f"pages of {origin[:200]!r} may not connect here: see notifier.origins", where="Origin")

    def counts_cookie(self, origin: str, asked: Asked, fetch_site: str) -> bool:
        """Whether the cookie of a request counts that may change something: one of our own pages has sent it, and says
        so. Browsers always do, by one of the two headers; what says neither may be an old one that was tricked."""
        return self.is_own(origin, asked) if origin else fetch_site in ("same-origin", "none")

    def check_write(self, origin: str, asked: Asked, fetch_site: str) -> None:
        """Raises Forbidden for a write that a foreign page makes with the cookie of our user (CSRF)."""
        if not self.counts_cookie(origin, asked, fetch_site):
            raise Forbidden(
                "the cookie is for pages of this site (Origin, Sec-Fetch-Site): programs send Authorization: Bearer …",
                where="Origin",
            )

    def check_login(self, origin: str, asked: Asked, fetch_site: str) -> None:
        """Raises Forbidden if a foreign page logs somebody in. A program that asks for a cookie has no page."""
        if (origin or fetch_site) and not self.counts_cookie(origin, asked, fetch_site):
            raise Forbidden("pages of other sites may not log anybody in here", where="Origin")
