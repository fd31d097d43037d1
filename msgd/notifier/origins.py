"""Whose pages may call us. Tokens in a header need no such check; a cookie travels by itself, and so does a WebSocket.

Sources: the Fetch standard (``Origin``, CORS), Fetch Metadata (``Sec-Fetch-Site``), RFC 6455 §10.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from msgd.errors import Forbidden

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origins:
    """``own``: origins of the same site under other names, as behind a proxy that changes ``Host``; ``cors``: pages of
    other sites that may call the API with a token of theirs."""

    def __init__(self, own: Sequence[str] = (), cors: Sequence[str] = ()) -> None:
        self._own = frozenset(origin.lower() for origin in own)
        self._cors = frozenset(origin.lower() for origin in cors)

    def is_own(self, origin: str, host: str) -> bool:
        """Whether a page of ``origin`` is ours. Only host and port are compared with the ``Host`` header: whether TLS
        ended at a proxy before us is not known here."""
        origin = origin.lower()
        if origin in self._own:
            return True
        try:
            parts = urlsplit(origin)
            default = _DEFAULT_PORTS[parts.scheme]
            asked = urlsplit(f"//{host.lower()}")
            return parts.hostname == asked.hostname and (parts.port or default) == (asked.port or default)
        except (KeyError, ValueError):
            return False  # "null", or something that is no origin

    def may_read(self, origin: str) -> bool:
        """Whether a page of another site may read our answers (CORS)."""
        return origin.lower() in self._cors

    def check_socket(self, origin: str, host: str) -> None:
        """Raises Forbidden for a WebSocket from a foreign page. Clients that are no browsers send no origin."""
        if origin and not self.is_own(origin, host) and not self.may_read(origin):
            raise Forbidden(f"pages of {origin[:200]!r} may not connect here: see notifier.origins", where="Origin")

    def check_write(self, origin: str, host: str, fetch_site: str) -> None:
        """Raises Forbidden for a write that a foreign page makes with the cookie of our user (CSRF)."""
        allowed = self.is_own(origin, host) if origin else fetch_site in ("", "same-origin", "none")
        if not allowed:
            raise Forbidden("pages of other sites may not write here with the cookie of this one", where="Origin")
