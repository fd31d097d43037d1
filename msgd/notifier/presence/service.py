"""Presence on a broker: beats and changes on ``msgd.control``, doors that open and close, watchers that are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.broker.topology import ANY_PRESENCE, CONTROL, presence_key
from msgd.clock import DelayedCall
from msgd.errors import InvalidInput, Unavailable
from msgd.messages.envelope import Message
from msgd.messages.topics import matches
from msgd.notifier.operations import message
from msgd.notifier.presence import said
from msgd.notifier.presence.roster import TICK_S, Roster
from msgd.notifier.presence.watching import View, Views, Watcher, Watching
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

_log = Logger()

JOIN_S: Final = 0.02
"""Changes that come within so long are said in one message: a herd of thousands is a few of them."""

QUEUE_LENGTH: Final = 10_000
"""Messages of others that wait for this process; what is dropped beyond is asked for again."""


class Presence:
    """Who is present, as this notifier knows it. A :class:`~msgd.work.parts.Part`."""

    def __init__(
        self, broker: Broker, clock: Any, *, patterns: Sequence[str], incarnation: Callable[[], str]
    ) -> None:  # fmt: skip
        """``patterns``: the topics of which presence is kept; ``incarnation`` makes a name unlike any other."""
        self._broker = broker
        self._clock = clock
        self._patterns = tuple(patterns)
        self._roster = Roster(incarnation(), clock.seconds())
        self._views = Views(self._roster, clock)
        self._watching = Watching(self._views, clock, presence_message)
        self._queue: ReplyQueue | None = None
        self._due: DelayedCall | None = None
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self._tasks = Tasks("presence")
        self._stopped = False

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen and to beat; returns at once, and waits for the broker by itself."""
        self._tasks.begin(self._open())
        self._ticking.start(TICK_S, now=False).addErrback(lambda failure: _log.failure("presence has stopped", failure))

    async def _open(self) -> None:
        self._queue = await wait_out(
            self._clock,
            lambda: self._broker.reply_queue(
                self._delivered,
                bindings=[(CONTROL, ANY_PRESENCE)],
                lost=self._lost,
                max_length=QUEUE_LENGTH,
            ),
        )
        self._lost()  # what was said before was not heard, nor perhaps what we said

    async def stop(self) -> None:
        """Say goodbye, and listen no more. Stopping twice, or before the start, is harmless."""
        if self._stopped:
            return
        self._stopped = True
        if self._ticking.running:
            self._ticking.stop()
        self._tasks.cancel()
        self._watching.stop()
        if self._due is not None and self._due.active():
            self._due.cancel()
        queue, self._queue = self._queue, None
        if queue is not None:
            self._roster.stop()
            self._flush()
            await queue.close()

    # -- who comes and goes -------------------------------------------------------------------------------------------

    def covers(self, topic: str) -> bool:
        """Whether presence is kept of a topic."""
        return any(matches(pattern, topic) for pattern in self._patterns)

    def enter(self, topic: str, sub: str) -> None:
        """``sub`` reads exactly ``topic``, by one door more. Of topics that are not covered nothing is kept."""
        if self.covers(topic):
            self._roster.enter(topic, sub)
            self._flush_soon()

    def leave(self, topic: str, sub: str) -> None:
        """By one door less: the counterpart of each ``enter``."""
        if self.covers(topic):
            self._roster.leave(topic, sub)

    # -- who is there -------------------------------------------------------------------------------------------------

    def check(self, topic: str) -> None:
        """Raises InvalidInput unless presence is kept of ``topic``."""
        if not self.covers(topic):
            kept = ", ".join(self._patterns) or "no topic"
            raise InvalidInput(f"presence is kept of {kept}, not of {topic}", where="topic")

    def view(self, topic: str) -> View:
        """Who is present."""
        return self._views.of(topic)

    def count(self, topic: str) -> int:
        """How many are."""
        return self._roster.count(topic)

    def watch(self, topic: str, watcher: Watcher) -> None:
        """Tell ``watcher`` of changes, with the view and its ``presence`` message, until :meth:`unwatch`."""
        self._watching.add(topic, watcher)
        if self._views.behind(topic):  # what the watcher may have seen by now is not the last word
            self._watching.changed((topic,))

    def unwatch(self, topic: str, watcher: Watcher) -> None:
        """The counterpart of ``watch``; harmless without one."""
        self._watching.remove(topic, watcher)

    # -- with the others ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._roster.tick(self._clock.seconds(), hears=self._queue is not None and self._broker.accepting)
        self._flush()

    def _lost(self) -> None:
        self._roster.missed()
        self._flush()

    def _delivered(self, delivery: Delivery) -> None:
        try:
            heard = said.decode(delivery.message.body)
        except msgspec.DecodeError as error:
            _log.warn("a message under {key} is not one of ours: {error}", key=delivery.key, error=error)
            return
        if heard.me != self._roster.me:
            self._roster.heard(heard)
            self._flush_soon()

    def _flush_soon(self) -> None:
        if self._due is None and not self._stopped:
            self._due = self._clock.callLater(JOIN_S, self._flush)

    def _flush(self) -> None:
        """Say what there is to say, tell what there is to tell."""
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()
        output = self._roster.output()
        for one in output.messages:
            sent = self._broker.publish(
                CONTROL, presence_key(type(one).__name__.lower()), Message(body=said.encode(one), persistent=False)
            )
            sent.addErrback(_made_up_for)
        self._views.changed(output.topics)
        self._watching.changed(output.topics)


def _made_up_for(failure: Failure) -> None:
    """A message that could not be sent: the next beat shows that it is missing."""
    failure.trap(Unavailable)


def presence_message(view: View) -> bytes:
    """The ``presence`` message of ``msgd.v1``."""
    return message("presence", {"topic": view.topic, "members": view.members, "count": view.count})
