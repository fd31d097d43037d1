"""What a server's reply means for a recipient: pure.

Sources: RFC 5321 §4.2 (reply codes), RFC 3463 and RFC 5248 (enhanced status codes), RFC 7505 (5.1.10, null MX).
"""

from __future__ import annotations

import enum
import re
from typing import Final

from msgspec import Struct

REPLY_CHARACTERS: Final = 500
"""Of a reply that is kept and shown."""

NO_SUCH_USER: Final = frozenset({(5, 1, 1), (5, 1, 2), (5, 1, 3), (5, 1, 6), (5, 1, 10), (5, 2, 1)})
"""Enhanced codes that will be the same tomorrow: no such mailbox, no such domain, no address, moved away without a new
address, a domain that takes no mail, a mailbox that was closed. Not 5.2.2 (full), 5.3.4 (too large) or 5.7.x (policy):
these say something of the mail, or of the day."""

NO_SUCH_USER_PLAIN: Final = frozenset({550, 551, 553})
"""The same in answer to RCPT TO, of servers without enhanced codes: mailbox not found, not local, no such name."""

PUSHING_BACK: Final = frozenset({421, 450, 451, 454})
"""Replies of servers that want less mail for a while: closing, mailbox busy, error in processing or greylisting, TLS or
authentication not available now."""

_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]+")


class Step(enum.Enum):
    """Where in a transaction a reply came."""

    RECIPIENT = "RCPT TO"
    DATA = "DATA"
    END = "end of data"


class Accepted(Struct, frozen=True):
    """The server has taken responsibility."""

    code: int
    reply: str


class Refused(Struct, frozen=True):
    """The server has said no: this is known, whatever happens to the connection now."""

    code: int
    reply: str
    step: Step

    @property
    def passes(self) -> bool:
        """Whether the same may be taken later."""
        return 400 <= self.code < 500

    @property
    def pushes_back(self) -> bool:
        """Whether the server wants less for a while."""
        return self.code in PUSHING_BACK

    @property
    def no_such_user(self) -> bool:
        """Whether nothing will ever reach this address."""
        if self.code < 500:
            return False
        enhanced = enhanced_code(self.reply)
        if enhanced is not None:
            return enhanced in NO_SUCH_USER
        return self.step is Step.RECIPIENT and self.code in NO_SUCH_USER_PLAIN


class Dropped(Struct, frozen=True):
    """The connection ended before the end of the message was sent: the server has taken nothing."""

    reason: str
    fresh: bool  # it was the connection's first mail: an older one may have been closed meanwhile


class Unclear(Struct, frozen=True):
    """The connection ended after the end of the message was sent and before the answer: nobody knows."""

    reason: str


Outcome = Accepted | Refused | Dropped | Unclear


def enhanced_code(reply: str) -> tuple[int, int, int] | None:
    """The enhanced status code at the beginning of a reply's text, such as (5, 1, 1)."""
    found = _ENHANCED.match(reply)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def shown(reply: str) -> str:
    """A reply in one line, cut, without what a terminal or a page might stumble over."""
    if len(reply) <= REPLY_CHARACTERS and reply.isascii() and reply.isprintable() and "  " not in reply:
        return reply.strip()  # as nearly all are
    line = " ".join(_UNPRINTABLE.sub(" ", reply).split())
    return line if len(line) <= REPLY_CHARACTERS else line[: REPLY_CHARACTERS - 1] + "…"
