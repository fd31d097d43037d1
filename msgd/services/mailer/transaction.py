"""One mail on its way over an SMTP connection, and what the server has said of it so far. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from twisted.internet.defer import Deferred

from msgd.errors import PeerError
from msgd.services.mailer.replies import Dropped, Outcome, Refused


class Envelope(Struct, frozen=True):
    """What the server is told: from whom, to whom, and the message in 7 or 8 bits."""

    sender: str  # a mailbox; "" for mail that wants no bounces
    recipient: str
    message: bytes

    @property
    def utf8(self) -> bool:
        """Whether it takes SMTPUTF8."""
        return not (self.sender.isascii() and self.recipient.isascii())


class SenderRefused(PeerError):
    """The server takes no mail from us: no fault of the recipient."""


class Transaction:
    """From MAIL to the answer to the end of the data."""

    __slots__ = ("_outcome", "envelope", "follows", "fresh", "misled", "pass_on", "refused", "sender_refused")

    def __init__(
        self, envelope: Envelope, outcome: Deferred[Outcome], pass_on: Callable[[], None] | None, *, fresh: bool
    ) -> None:
        self.envelope = envelope
        self.pass_on = pass_on  # called when another may follow
        self.fresh = fresh  # the connection's first
        self.follows = False  # its commands left behind the content of another
        self.misled = False  # and the server seems to be confused by that
        self.refused: Refused | None = None
        self.sender_refused = ""
        self._outcome = outcome

    @property
    def over(self) -> bool:
        """Whether something was said by which it will not be sent."""
        return self.refused is not None or self.misled or bool(self.sender_refused)

    @property
    def known(self) -> Outcome | None:
        """The same as an outcome; None: nothing that concerns the recipient."""
        return Dropped("the server took no mail behind another", fresh=False) if self.misled else self.refused

    def tell(self, outcome: Outcome | None) -> None:
        """What became of it; None: the server does not take our sender."""
        if self._outcome.called:  # cancelled
            return
        if outcome is None:
            self._outcome.errback(SenderRefused(self.sender_refused))
        else:
            self._outcome.callback(outcome)
