"""One timer for the heartbeats of all WebSockets: timers for each would be a good part of what an idle one costs."""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.task import LoopingCall

from msgd.notifier.limits import HEARTBEAT_S, PONG_S

TICK_S: Final = 1.0
"""Each connection has one of :data:`~msgd.notifier.limits.HEARTBEAT_S` turns, so that not all are asked at once."""


class Beating(Protocol):
    """What is asked for a sign of life. Neither method raises."""

    def beat(self) -> None:
        """Ask the client whether it is there."""

    def check(self) -> None:
        """It has had :data:`~msgd.notifier.limits.PONG_S` to answer."""


class Heartbeats:
    """The turns of all connections; the timer runs while there are any."""

    def __init__(self, clock: Any) -> None:
        self._turns: list[dict[Beating, None]] = [{} for _ in range(HEARTBEAT_S)]
        self._turn_of: dict[Beating, int] = {}
        self._now = 0
        self._next = 0
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def add(self, one: Beating) -> None:
        """It is asked from now on; the first time within :data:`~msgd.notifier.limits.HEARTBEAT_S`."""
        self._next = (self._next + 1) % HEARTBEAT_S
        self._turn_of[one] = self._next
        self._turns[self._next][one] = None
        if not self._ticking.running:
            self._ticking.start(TICK_S, now=False)

    def remove(self, one: Beating) -> None:
        """It is asked no more; harmless if it never was."""
        turn = self._turn_of.pop(one, None)
        if turn is not None:
            del self._turns[turn][one]
        if not self._turn_of and self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        self._now = (self._now + 1) % HEARTBEAT_S
        for one in list(self._turns[self._now]):
            one.beat()
        for one in list(self._turns[(self._now - PONG_S) % HEARTBEAT_S]):
            one.check()
