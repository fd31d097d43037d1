"""The error that a refused call stands for."""

from __future__ import annotations

from typing import Final

import msgspec

from msgd import errors

# Those of msgd.errors alone: others' subclasses may be made of other arguments.
_ERRORS: Final = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MsgdError)
}


class Problem(msgspec.Struct):
    """What is read of a problem document (RFC 9457)."""

    detail: str = ""
    title: str = ""
    code: str = ""
    where: str = ""


def error_of(status: int, body: bytes, retry_after: float | None = None) -> errors.MsgdError:
    """The error that a refused call stands for: by the document's ``code``, else by the HTTP status."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = Problem(detail=f"the server answered {status}")
    kind = _ERRORS.get(problem.code)
    if kind is None:
        kind = {
            401: errors.Unauthenticated,
            403: errors.Forbidden,
            404: errors.NotFound,
            409: errors.Conflict,
            429: errors.RateLimited,
        }.get(status, errors.InvalidInput if status < 500 else errors.Unavailable)
    return kind(problem.detail or problem.title or f"status {status}", where=problem.where, retry_after=retry_after)
