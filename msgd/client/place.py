"""Where a server is, and whether a token may be shown to it. Imports nothing slow."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from msgd.errors import InvalidInput


def server_root(url: str) -> str:
    """``url`` without a slash at its end. Raises InvalidInput for what no server has."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        good = False
    if not good:
        raise InvalidInput(f"{url!r} is not the address of a server, such as http://127.0.0.1:8080", where="url")
    return url.rstrip("/")


def check_secrecy(root: str) -> None:
    """Raises InvalidInput for a server to which a token would go in clear text, for others on its way to read: all but
    those on this machine and those with ``https``."""
    parts = urlsplit(root)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or _is_loopback(host):
        return
    raise InvalidInput(
        f"the token would go to {host} in clear text: give its https address, or say that you trust the network "
        "between (msgd --clear-text, or MSGD_CLEAR_TEXT=1; in Python clear_text=True)",
        where="url",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
