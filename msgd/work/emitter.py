"""The events of one attempt on their way to the broker: in order, each until it is confirmed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.broker.topology import EVENTS
from msgd.clock import Clock
from msgd.errors import Overloaded, Unavailable
from msgd.messages.envelope import Message
from msgd.work.outage import pause, wait_out

_log = Logger()

UNDER_WAY: Final = 256
"""Events published and not yet confirmed: a few milliseconds of a quorum queue's work, so the line is never idle."""

UNDER_WAY_BYTES: Final = 4 * 1024 * 1024
"""Of large events fewer are under way: the broker keeps as much in its memory for each attempt."""

WAITING_BYTES: Final = 64 * 1024 * 1024
"""What an attempt may have emitted and not awaited, before it is told that it is too fast."""


class _Emission:
    """One event from ``emit`` to its confirm."""

    __slots__ = ("message", "safe", "topic", "waiter")

    def __init__(self, topic: str, message: Message, waiter: Deferred[None] | None) -> None:
        """``waiter``: if it is cancelled, that ends the waiting; the event goes its way."""
        self.topic = topic
        self.message = message
        self.safe = False
        self.waiter = waiter


class Emitter:
    """Publishes the events of one attempt, on its job's topic and on others, with a bounded number under way.

    When the broker is lost, what was not confirmed is published again, under the same ids and in the same order, once
    it is back. An event that the broker refuses (``basic.nack``) comes after those that were under way with it.
    """

    def __init__(self, broker: Broker, clock: Clock, topic: str) -> None:
        self._broker = broker
        self._clock = clock
        self._topic = topic
        self._line: deque[_Emission] = deque()  # in order, from the oldest that is not safe
        self._line_bytes = 0
        self._unsent: deque[_Emission] = deque()
        self._under_way = 0
        self._under_way_bytes = 0
        self._broken = False  # what was under way failed: nothing is sent until that is mended
        self._tries = 0  # to mend it, since the last confirm
        self._mending: Deferred[None] | None = None
        self._flushes: list[tuple[_Emission, Deferred[None]]] = []
        self._error: Exception | None = None

    def emit(self, message: Message, *, topic: str = "") -> Deferred[None]:
        """Fires when the event is safe; ``topic``: another than the job's. Fails with Overloaded over WAITING_BYTES, or
        with the error of :meth:`end`."""
        if self._error is not None:
            return fail(self._error)
        if self._line_bytes > WAITING_BYTES:
            return fail(Overloaded(f"{self._line_bytes} bytes of events are not safe yet: await some before the next"))
        waiter: Deferred[None] = Deferred()
        self._take(_Emission(topic or self._topic, message, waiter))
        return waiter

    def tell(self, message: Message) -> None:
        """Emit what nobody awaits by itself: :meth:`flush` does. Nothing happens after :meth:`end`."""
        if self._error is None:
            self._take(_Emission(self._topic, message, None))

    def _take(self, emission: _Emission) -> None:
        self._line.append(emission)
        self._line_bytes += len(emission.message.body)
        self._unsent.append(emission)
        self._send()

    def flush(self) -> Deferred[None]:
        """Fires when all that has been emitted so far is safe. Fails with the error of :meth:`end`."""
        if self._error is not None:
            return fail(self._error)
        if not self._line:
            return succeed(None)
        entry = (self._line[-1], Deferred[None](lambda _: self._flushes.remove(entry)))
        self._flushes.append(entry)
        return entry[1]

    def end(self, error: Exception) -> None:
        """Publish nothing more, and tell all who wait or come that it was for ``error``."""
        if self._error is not None:
            return
        self._error = error
        if self._mending is not None:
            self._mending.cancel()
        line, self._line = self._line, deque()
        flushes, self._flushes = self._flushes, []
        self._unsent.clear()
        for emission in line:
            if not emission.safe and emission.waiter is not None:
                emission.waiter.errback(error)
                emission.waiter.addErrback(_unheard)
        for _, waiter in flushes:
            waiter.errback(error)

    def _send(self) -> None:
        while (
            self._unsent
            and not self._broken
            and self._under_way < UNDER_WAY
            and self._under_way_bytes < UNDER_WAY_BYTES
        ):
            emission = self._unsent.popleft()
            self._under_way += 1
            self._under_way_bytes += len(emission.message.body)
            published = self._broker.publish(EVENTS, emission.topic, emission.message)
            published.addCallbacks(
                self._confirmed, self._not_confirmed, callbackArgs=(emission,), errbackArgs=(emission,)
            )

    def _confirmed(self, _: None, emission: _Emission) -> None:
        self._settled(emission)
        if self._error is not None:
            return
        emission.safe = True
        self._tries = 0
        while self._line and self._line[0].safe:
            self._line_bytes -= len(self._line[0].message.body)
            gone = self._line.popleft()
            while self._flushes and self._flushes[0][0] is gone:
                self._flushes.pop(0)[1].callback(None)
        self._send()
        self._mend()
        if emission.waiter is not None:
            emission.waiter.callback(None)

    def _not_confirmed(self, failure: Failure, emission: _Emission) -> None:
        self._settled(emission)
        if self._error is not None:
            return
        if not isinstance(failure.value, Unavailable):
            _log.failure("an event of {topic} cannot be published", failure, topic=emission.topic)
            self.end(failure.value if isinstance(failure.value, Exception) else RuntimeError(str(failure.value)))
            return
        self._broken = True
        self._mend()

    def _settled(self, emission: _Emission) -> None:
        self._under_way -= 1
        self._under_way_bytes -= len(emission.message.body)

    def _mend(self) -> None:
        if self._broken and self._under_way == 0 and self._mending is None:
            self._mending = Deferred.fromCoroutine(self._send_again())
            self._mending.addErrback(_ended)

    async def _send_again(self) -> None:
        """Once the broker is back, go on from the oldest event that is not safe. Cancelled by :meth:`end`."""
        self._tries += 1
        await wait_out(self._clock, self._broker.ready)
        await pause(self._clock, self._tries)
        self._mending = None
        self._broken = False
        self._unsent = deque(emission for emission in self._line if not emission.safe)
        self._send()


def all_safe(emitted: Sequence[Deferred[None]]) -> Deferred[None]:
    """Fires when all of them have; fails with the error of the first that fails."""
    if len(emitted) == 1:
        return emitted[0]
    return gatherResults(emitted, consumeErrors=True).addCallbacks(lambda _: None, _first)


def _first(failure: Failure) -> Failure:
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


def _unheard(_: Failure) -> None:
    """Nobody waits for this one: whoever flushes or emits next hears of it."""


def _ended(failure: Failure) -> None:
    """The attempt ended during an outage."""
    failure.trap(CancelledError)
