"""Which tokens have been revoked (pure): rows of the table, and what they say of a principal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from msgd.notifier.interface import Principal

SUB: Final = "sub"
JTI: Final = "jti"


class Revocation(Struct, frozen=True):
    """All tokens of a ``sub`` that were issued up to a moment, or the one token with a ``jti``."""

    kind: str  # SUB or JTI
    value: str
    revoked_ms: int
    until_ms: int  # when the last token that it can concern has expired


class Revoked:
    """All revocations that still concern somebody, as they were read at one moment."""

    def __init__(self, rows: Sequence[Revocation] = (), version: tuple[int, ...] = ()) -> None:
        """``version``: tells whether the table has changed since."""
        self.version = version
        self._subs = {row.value: row.revoked_ms for row in rows if row.kind == SUB}
        self._ids = {row.value for row in rows if row.kind == JTI}

    def covers(self, who: Principal) -> bool:
        """Whether the token of ``who`` is revoked.

        Of a revoked ``sub`` a token counts as newer only if its ``iat`` lies after the revocation; one that does not
        tell when it was issued is never newer. ``iat`` mostly counts whole seconds, so a token of the very second of
        the revocation is refused too.
        """
        if who.token_id and who.token_id in self._ids:
            return True
        revoked_ms = self._subs.get(who.sub)
        return revoked_ms is not None and who.issued_s * 1000 <= revoked_ms
