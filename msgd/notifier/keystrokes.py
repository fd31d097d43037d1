"""Who is typing: an event that is shown to whoever reads the topic now, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.broker.topology import LIVE, live_key
from msgd.clock import Clock
from msgd.errors import Unavailable
from msgd.messages.envelope import Message
from msgd.messages.events import TYPING, Event
from msgd.messages.ids import IdMaker
from msgd.messages.live import encode_batch, live_event
from msgd.messages.topics import check_topic
from msgd.notifier.access import Access
from msgd.notifier.interface import Answer, Call, Principal, Route, answer

PACE_S: Final = 1.0
"""Between two of one principal on one topic: who types says so all the time, and nobody looks that often."""


class Typing:
    """Tells who is typing."""

    def __init__(self, access: Access, broker: Broker, clock: Clock, new_id: IdMaker) -> None:
        self._access = access
        self._broker = broker
        self._clock = clock
        self._new_id = new_id
        self._told_s: dict[tuple[str, str], float] = {}  # by topic and sub; the oldest first

    def tell(self, who: Principal, topic: str) -> None:
        """``who`` is typing. What comes too soon after another is dropped, and so is what the broker does not take.
        Raises InvalidTopic, and Forbidden unless ``who`` may publish there."""
        check_topic(topic)
        self._access.check_publish(who, topic)
        now_s = self._clock.seconds()
        while self._told_s:
            pair, told_s = next(iter(self._told_s.items()))
            if 0 <= now_s - told_s < PACE_S:
                break
            del self._told_s[pair]
        if (topic, who.sub) in self._told_s:
            return
        self._told_s[topic, who.sub] = now_s
        now_ms = int(now_s * 1000)
        event = Event(topic=topic, type=TYPING, id=self._new_id(now_ms), source=who.sub, time_ms=now_ms)
        # No epoch: what is kept nowhere belongs to no life of the journal.
        body = encode_batch("", [live_event(event)])
        sent = self._broker.publish(LIVE, live_key(topic), Message(body=body, persistent=False))
        sent.addErrback(_dropped)


class TypingApi:
    """``POST /api/topics/{topic}/typing``."""

    def __init__(self, typing: Typing) -> None:
        self._typing = typing

    def routes(self) -> Sequence[Route]:
        return (Route(method="POST", path="/api/topics/{topic}/typing", endpoint=self.tell),)

    async def tell(self, call: Call) -> Answer:
        """The caller is typing."""
        topic = call.words["topic"]
        self._typing.tell(call.principal, topic)
        return answer({"topic": topic}, status=202)


def _dropped(failure: Failure) -> None:
    """The next one will be heard."""
    failure.trap(Unavailable)
