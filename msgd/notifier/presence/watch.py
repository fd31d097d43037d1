"""One connection that is told who is present on one topic."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from msgd.notifier.attendance import Seat
from msgd.notifier.presence.service import Presence, presence_message
from msgd.notifier.presence.watching import View


class Listener(Protocol):
    """A connection with a bounded buffer."""

    def drained(self) -> Deferred[None]:
        """Fires when nothing waits for the socket (at once if so). Cancel it to stop waiting."""

    def say(self, message: bytes) -> None: ...


class Watch:
    """Tells a connection of each change that it has room for; one that reads slowly is told the latest."""

    def __init__(self, presence: Presence, topic: str, listener: Listener, seat: Seat) -> None:
        """``seat``: the right to know, given up at the end."""
        self._presence = presence
        self._topic = topic
        self._listener = listener
        self._seat = seat
        self._waiting: Deferred[None] | None = None  # for the socket
        presence.watch(topic, self._changed)

    def end(self) -> None:
        """Tell no more."""
        self._presence.unwatch(self._topic, self._changed)
        self._seat.leave()
        if self._waiting is not None:
            self._waiting.cancel()

    def _changed(self, view: View, message: bytes) -> None:
        if self._waiting is not None:
            return  # by then it will be another view
        waiting = self._listener.drained()
        if waiting.called:
            self._listener.say(message)
            return
        self._waiting = waiting
        waiting.addCallbacks(self._has_room, _gone)

    def _has_room(self, _: None) -> None:
        self._waiting = None
        self._listener.say(presence_message(self._presence.view(self._topic)))


def _gone(failure: Failure) -> None:
    failure.trap(CancelledError)
