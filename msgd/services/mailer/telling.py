"""Tells what came of mails: an event each, several on their way together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from msgd.clock import Clock
from msgd.services.mailer.ledger import Ended, Row
from msgd.work.interface import Context

GATHER_S: Final = 0.02
"""From one batch of events to the next: the broker stores one event as fast as thirty."""


class Telling:
    """The events of a slice."""

    def __init__(
        self,
        context: Context[Any],
        clock: Clock,
        *,
        told: Callable[[Sequence[Ended]], None],
        failed: Callable[[Failure, int], None],
    ) -> None:
        """``told``: these are safe; ``failed``: so many cannot be told, as the claim was lost or the broker refuses
        them."""
        self._context = context
        self._clock = clock
        self._told = told
        self._failed = failed
        self._gathered: list[tuple[Row, Ended]] = []
        self._waiting = False
        self._next_s = 0.0  # not before then

    def tell(self, row: Row, ended: Ended) -> None:
        """What came of one attempt."""
        self._gathered.append((row, ended))
        if self._waiting:
            return
        wait_s = self._next_s - self._clock.seconds()
        if wait_s > 0:
            self._waiting = True
            self._clock.callLater(min(wait_s, GATHER_S), self._emit)
        else:
            self._emit()

    def _emit(self) -> None:
        self._waiting = False
        self._next_s = self._clock.seconds() + GATHER_S
        gathered, self._gathered = self._gathered, []
        _Batch(
            [ended for _, ended in gathered],
            [self._emitted(row, ended) for row, ended in gathered],
            self._told,
            self._failed,
        )

    def _emitted(self, row: Row, ended: Ended) -> Deferred[None]:
        data = {
            "row": row.row,
            "email": row.email,
            "attempt": ended.attempt,
            "code": ended.code,
            "reply": ended.reply,
        }
        return self._context.emit(ended.state.value, data, key=f"[{row.row},{ended.attempt}]")


class _Batch:
    """Events that were emitted together: waits for the last confirm."""

    def __init__(
        self,
        ended: Sequence[Ended],
        emitted: Sequence[Deferred[None]],
        told: Callable[[Sequence[Ended]], None],
        failed: Callable[[Failure, int], None],
    ) -> None:
        self._ended = ended
        self._told = told
        self._failed = failed
        self._left = len(emitted)
        self._failure: Failure | None = None
        for one in emitted:
            one.addCallbacks(self._one_is_safe, self._one_failed)

    def _one_is_safe(self, _: None) -> None:
        self._left -= 1
        if not self._left:
            if self._failure is None:
                self._told(self._ended)
            else:
                self._failed(self._failure, len(self._ended))

    def _one_failed(self, failure: Failure) -> None:
        self._failure = failure
        self._one_is_safe(None)
