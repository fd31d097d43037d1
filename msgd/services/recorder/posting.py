"""Publishes what follows from a batch, all at once, and awaits the confirms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.errors import Unavailable
from msgd.services.recorder.live import Posting

_log = Logger()

_Results = list[tuple[bool, object]]


def post(broker: Broker, postings: Sequence[Posting]) -> Deferred[None]:
    """Fires when the broker has taken all of them. Fails with Unavailable if one was not taken, and can be later.

    What can never be published, such as a reply to a name that no queue can have, is logged and left.
    """
    return _published(broker, postings).addCallback(_check, postings)


def show(broker: Broker, postings: Sequence[Posting]) -> Deferred[None]:
    """The same for what need not arrive: fires when the broker has taken it, or not."""
    return _published(broker, postings).addCallback(lambda _: None)


def _published(broker: Broker, postings: Sequence[Posting]) -> Deferred[_Results]:
    published: list[Deferred[Any]] = [broker.publish(one.exchange, one.key, one.message) for one in postings]
    return DeferredList(published, consumeErrors=True)


def _check(results: _Results, postings: Sequence[Posting]) -> None:
    for (taken, result), posting in zip(results, postings, strict=True):
        if taken:
            continue
        assert isinstance(result, Failure)
        if result.check(Unavailable):
            result.raiseException()
        _log.warn(
            "a message to {exchange}/{key} cannot be published: {why}",
            exchange=posting.exchange,
            key=posting.key,
            why=result.getErrorMessage(),
        )
