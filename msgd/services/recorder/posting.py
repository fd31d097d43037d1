"""Publishes what follows from a batch, all at once, and awaits the confirms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.errors import Unavailable
from msgd.services.recorder.live import Posting

_log = Logger()

QUIET_S: Final = 60.0
"""Between two warnings: one caller with a name that no queue can have, and a job of a million results, is one news."""

_Results = list[tuple[bool, object]]


class Poster:
    """Publishes for one recorder."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._untold = 0  # of what could not be published
        self._told_s = float("-inf")

    def post(self, postings: Sequence[Posting]) -> Deferred[None]:
        """Fires when the broker has taken all of them. Fails with Unavailable if one was not taken, and can be later.

        What can never be published, such as a reply to a name that no queue can have, is logged and left.
        """
        return self._published(postings).addCallback(self._check, postings)

    def show(self, postings: Sequence[Posting]) -> Deferred[None]:
        """The same for what need not arrive: fires when the broker has taken it, or not."""
        return self._published(postings).addCallback(lambda _: None)

    def _published(self, postings: Sequence[Posting]) -> Deferred[_Results]:
        published: list[Deferred[Any]] = [self._broker.publish(one.exchange, one.key, one.message) for one in postings]
        return DeferredList(published, consumeErrors=True)

    def _check(self, results: _Results, postings: Sequence[Posting]) -> None:
        for (taken, result), posting in zip(results, postings, strict=True):
            if taken:
                continue
            assert isinstance(result, Failure)
            if result.check(Unavailable):
                result.raiseException()
            self._warn(posting, result)

    def _warn(self, posting: Posting, why: Failure) -> None:
        self._untold += 1
        now_s = self._clock.seconds()
        if now_s - self._told_s < QUIET_S:
            return
        _log.warn(
            "{count} messages cannot be published, the latest to {exchange}/{key}: {why}",
            count=self._untold,
            exchange=posting.exchange,
            key=posting.key,
            why=why.getErrorMessage(),
        )
        self._untold, self._told_s = 0, now_s
