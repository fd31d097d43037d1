"""Tokens found good a while ago, so that a herd that comes back costs no cryptography (pure).

What is kept is what never changes: who a token speaks for, and the key that has signed it. Whether that key is trusted
still, whether the token has expired and whether it was taken back is looked at each time. What is refused is not kept.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from msgspec import Struct

from msgd.notifier.auth.keys import Key
from msgd.notifier.interface import Principal

VERIFIED_BYTES: Final = 4 * 1024 * 1024
"""Of tokens that are remembered, in their own length: some ten thousand of the usual 300 bytes. What is kept of each is
at most a few times as long."""


class Good(Struct, frozen=True):
    """A token's principal, the header that its key is found by, and that key."""

    who: Principal
    algorithm: str
    kid: str
    key: Key


class Verified:
    """The tokens seen last, by their digests."""

    def __init__(self, most_bytes: int = VERIFIED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._known: dict[bytes, tuple[Good, int]] = {}  # the one seen last at the end

    def find(self, token: str) -> Good | None:
        """What is known of a token."""
        digest = _digest(token)
        known = self._known.pop(digest, None)
        if known is None:
            return None
        self._known[digest] = known
        return known[0]

    def add(self, token: str, good: Good) -> None:
        """It has been verified."""
        self.forget(token)
        self._known[_digest(token)] = good, len(token)
        self._bytes += len(token)
        while self._bytes > self._most_bytes:
            self._bytes -= self._known.pop(next(iter(self._known)))[1]

    def forget(self, token: str) -> None:
        """It is good no more; harmless if nothing was known of it."""
        known = self._known.pop(_digest(token), None)
        if known is not None:
            self._bytes -= known[1]

    def __len__(self) -> int:
        return len(self._known)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
