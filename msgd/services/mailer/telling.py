"""Tells what came of mails: an event each, several in one message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.python.failure import Failure

from msgd.services.mailer.beat import Beat
from msgd.services.mailer.ledger import Ended, Row
from msgd.work.interface import Context

GATHER_S: Final = 0.03
"""From one batch of events to the next: the broker stores one event as fast as thirty, and the recorder and the ledger
write for each batch."""


class Telling:
    """The events of a slice."""

    def __init__(
        self,
        context: Context[Any],
        beat: Beat,
        *,
        told: Callable[[Sequence[Ended]], None],
        failed: Callable[[Failure, int], None],
    ) -> None:
        """``told``: these are safe; ``failed``: so many cannot be told, as the claim was lost or the broker refuses
        them, or for whatever else: a slice waits for each of them."""
        self._context = context
        self._beat = beat
        self._told = told
        self._failed = failed
        self._gathered: list[tuple[Row, Ended]] = []

    def tell(self, row: Row, ended: Ended) -> None:
        """What came of one attempt."""
        self._gathered.append((row, ended))
        if len(self._gathered) == 1:
            self._beat.at_next(self._emit)

    def _emit(self) -> None:
        gathered, self._gathered = self._gathered, []
        ended = [ended for _, ended in gathered]
        events = (_event(row, one) for row, one in gathered)
        safe = maybeDeferred(self._context.emit_all, events)  # also what it raises is told: at a beat nobody hears it
        safe.addCallbacks(lambda _: self._told(ended), lambda failure: self._failed(failure, len(ended)))


def _event(row: Row, ended: Ended) -> tuple[str, Any, str]:
    """Type, data and key."""
    data = {"row": row.row, "email": row.email, "attempt": ended.attempt, "code": ended.code, "reply": ended.reply}
    return ended.state.value, data, f"[{row.row},{ended.attempt}]"
