"""The opening handshake of a WebSocket (RFC 6455 §4.2.1), on the headers that the HTTP server has read (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from msgd.errors import InvalidInput
from msgd.notifier.problems import WEBSOCKET_VERSION, UpgradeRequired

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")


def check_handshake(header: Callable[[str], str], subprotocol: str) -> str:
    """The key that is to be answered. Raises UpgradeRequired if no WebSocket of our version is asked for, and
    InvalidInput for a handshake that is wrong, or offers other subprotocols than ``subprotocol``.

    ``header``: all values of a header, joined with commas, or "". Extensions are mere offers: see ``deflate``.
    """
    if "websocket" not in _words(header("upgrade").lower()):
        raise UpgradeRequired(f"this is a WebSocket: connect with the subprotocol {subprotocol}", where="upgrade")
    if "upgrade" not in _words(header("connection").lower()):
        raise InvalidInput("a WebSocket is asked for with Connection: Upgrade", where="connection")
    if header("sec-websocket-version") != WEBSOCKET_VERSION:
        raise UpgradeRequired(
            f"the version of WebSockets spoken here is {WEBSOCKET_VERSION}", where="sec-websocket-version"
        )
    key = header("sec-websocket-key")
    if _KEY.fullmatch(key) is None:
        raise InvalidInput("the key must be 16 bytes in base64, once", where="sec-websocket-key")
    host = header("host")
    if not host or "," in host:
        raise InvalidInput("a request names one host", where="host")
    if subprotocol not in _words(header("sec-websocket-protocol")):
        raise InvalidInput(f"this server speaks the subprotocol {subprotocol} only", where="sec-websocket-protocol")
    return key


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",")]
