"""From a token to a principal at the door, where strangers try their luck."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from msgd.errors import TokenExpired, TokenRevoked, Unauthenticated
from msgd.notifier.allowances import Allowances
from msgd.notifier.auth.tokens import Tokens
from msgd.notifier.interface import Principal

KNOWN: Final = 10_000
"""Tokens remembered as good: the users of one notifier."""


class Entry:
    """Verifies tokens, and limits by address how many bad ones are tried.

    An address may be that of many: a token that was good before is let in however many bad ones come from there.
    """

    def __init__(self, tokens: Tokens, allowances: Allowances) -> None:
        self._tokens = tokens
        self._allowances = allowances
        self._known: dict[bytes, None] = {}  # digests, the one seen last at the end

    async def principal(self, token: str, address: str) -> Principal:
        """Who ``token`` speaks for. Raises RateLimited, and what :meth:`Tokens.principal` raises."""
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        if digest not in self._known:
            self._allowances.guess(address)
        try:
            who = await self._tokens.principal(token)
        except (TokenExpired, TokenRevoked):
            raise  # it was good: nobody is guessing
        except Unauthenticated:
            self._allowances.guessed_wrong(address)
            raise
        self._known.pop(digest, None)
        self._known[digest] = None
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        return who

    def check(self, who: Principal) -> None:
        """Raises TokenExpired, TokenRevoked or Unavailable if the token of ``who``, once verified, is good no more."""
        self._tokens.check(who)
