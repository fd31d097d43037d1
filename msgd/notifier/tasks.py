"""Coroutines that nobody awaits, but somebody owns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


class Tasks:
    """What one owner has under way, cancelled when it stops; an error is logged."""

    def __init__(self, what: str) -> None:
        """``what``: what breaks off with an error, for the log."""
        self._what = what
        self._running: set[Deferred[None]] = set()

    def begin(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run it to its end, or to :meth:`cancel`."""
        task = Deferred.fromCoroutine(coroutine)
        self._running.add(task)
        task.addErrback(self._broke)
        task.addCallback(lambda _: self._running.discard(task))

    def cancel(self) -> None:
        """Cancel all that are under way."""
        for task in list(self._running):
            task.cancel()

    def _broke(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("{what} broke off", failure, what=self._what)
