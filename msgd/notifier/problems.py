"""Errors as problem documents (RFC 9457): ``code`` and ``where`` are ours, ``title`` is the status' own phrase."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar, Final

from msgd import errors
from msgd.messages import json
from msgd.notifier.interface import Answer

CONTENT_TYPE: Final = "application/problem+json"

RETRY_AFTER_S: Final = 2.0
"""Said with 503 where the error has no better idea: a broker or database that restarts is back in seconds."""


WEBSOCKET_VERSION: Final = "13"
"""The one that the standard knows; whoever comes with another is told (RFC 6455 §4.4)."""


class MethodNotAllowed(errors.InvalidInput):
    """A path that knows other methods; ``allowed`` names them."""

    code = "method-not-allowed"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method} means nothing here; allowed: {allowed}")
        self.allowed = allowed


class NotAcceptable(errors.InvalidInput):
    """None of the forms that an answer has is one that the client accepts."""

    code = "not-acceptable"


class UnsupportedMedia(errors.InvalidInput):
    """A body of a kind that the route does not take."""

    code = "unsupported-media-type"


class UpgradeRequired(errors.InvalidInput):
    """A plain request where a WebSocket is expected."""

    code = "upgrade-required"


_STATUS: Final[Mapping[type[errors.MsgdError], int]] = {
    MethodNotAllowed: 405,
    NotAcceptable: 406,
    UnsupportedMedia: 415,
    UpgradeRequired: 426,
    errors.TooLarge: 413,
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.RateLimited: 429,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.PeerError: 502,
}


class _Hidden(errors.MsgdError):
    """What is said of an error whose words are not the caller's business."""

    code: ClassVar[str] = "internal"


HIDDEN: Final = _Hidden("something went wrong here; it has been logged")


def status_of(error: errors.MsgdError) -> int:
    """The HTTP status of an error: that of its nearest kind, 500 for what is our fault."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def problem(error: errors.MsgdError) -> Answer:
    """The answer that tells a client of ``error``."""
    status = status_of(error)
    if status == 500:
        error = HIDDEN
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
    }
    if error.where:
        document["where"] = error.where
    headers: dict[str, str] = {}
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    if status == 426:
        headers |= {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": WEBSOCKET_VERSION}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="msgd"'
    if status in (429, 503) or error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after or RETRY_AFTER_S))
    return Answer(status=status, body=json.encode(document), content_type=CONTENT_TYPE, headers=headers)
