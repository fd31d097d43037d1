"""``/api/revoke``: take tokens back before their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from msgd.errors import InvalidInput, NotFound
from msgd.messages.wire import format_time
from msgd.notifier.auth.revocations import Revocations
from msgd.notifier.auth.revoked import JTI, SUB, Revocation
from msgd.notifier.auth.tokens import ID_BYTES, SUB_BYTES
from msgd.notifier.interface import Answer, Call, Route, answer

LISTED: Final = 1000
"""Revocations in one answer."""

MARGIN_S: Final = 60.0
"""A revocation is kept for so long after the last token that it concerns: clocks differ."""


class Revoke(Struct, forbid_unknown_fields=True):
    """Whose tokens, or which one; ``expires``: its ``exp``, so that the revocation can be forgotten by then."""

    sub: str = ""
    jti: str = ""
    expires: float | None = None  # seconds since 1970


class RevokeApi:
    """For those who may do everything."""

    def __init__(self, revocations: Revocations, longest_s: float, now_s: Callable[[], float]) -> None:
        """``longest_s``: how long a token may be good."""
        self._revocations = revocations
        self._longest_s = longest_s
        self._now_s = now_s

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="POST", path="/api/revoke", endpoint=self.revoke),
            Route(method="GET", path="/api/revoke", endpoint=self.list),
            Route(method="DELETE", path="/api/revoke", endpoint=self.lift),
        )

    async def revoke(self, call: Call) -> Answer:
        """From the answer on they are refused here, and elsewhere within a second."""
        _check_right(call)
        given = call.json(Revoke)
        kind, value = _named(given.sub, given.jti)
        now_s = self._now_s()
        until_s = now_s + self._longest_s
        if given.expires is not None:
            if kind == SUB:
                raise InvalidInput(
                    "expires goes with a jti: a sub may have tokens that nobody knows of", where="expires"
                )
            # NaN too is not greater.
            if not given.expires > now_s:
                raise InvalidInput("expires is the exp of a token that is still good", where="expires")
            until_s = min(given.expires, until_s)
        revocation = Revocation(kind, value, int(now_s * 1000), int((until_s + MARGIN_S) * 1000))
        return answer(_view(await self._revocations.add(revocation)))

    async def list(self, call: Call) -> Answer:
        """The newest first."""
        _check_right(call)
        return answer({"revocations": [_view(one) for one in await self._revocations.newest(LISTED)]})

    async def lift(self, call: Call) -> Answer:
        """Tokens that are still good are good again."""
        _check_right(call)
        kind, value = _named(call.text("sub"), call.text("jti"))
        if not await self._revocations.lift(kind, value):
            raise NotFound(f"no token with this {kind} is revoked", where=kind)
        return Answer(status=204, content_type="")


def _check_right(call: Call) -> None:
    call.principal.require(call.principal.administers("#"), "revoking tokens, which takes admin:#")


def _named(sub: str, jti: str) -> tuple[str, str]:
    """Which of the two is given. Raises InvalidInput."""
    if bool(sub) == bool(jti):
        raise InvalidInput("one of sub and jti says what is revoked", where="sub")
    kind, value, most = (SUB, sub, SUB_BYTES) if sub else (JTI, jti, ID_BYTES)
    if len(value.encode("utf-8", "surrogatepass")) > most or not value.isprintable():
        raise InvalidInput(f"no token can have this {kind}: it has at most {most} printable bytes", where=kind)
    return kind, value


def _view(one: Revocation) -> dict[str, Any]:
    return {one.kind: one.value, "revoked": format_time(one.revoked_ms), "until": format_time(one.until_ms)}
