"""Events of an attempt reach the broker in order, whatever happens to it."""

from __future__ import annotations

from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from msgd.broker.interface import Broker
from msgd.errors import Overloaded, Superseded
from msgd.messages.envelope import Message
from msgd.work import emitter as module
from msgd.work.emitter import UNDER_WAY, UNDER_WAY_BYTES, Emitter
from msgd.work.outage import PAUSES_S
from tests.work.wire import Wire

STEPS = st.one_of(
    st.just(("emit", 0)),
    st.just(("flush", 0)),
    st.tuples(st.just("confirm"), st.integers(1, 5)),
    st.tuples(st.just("cut"), st.integers(0, 5)),
    st.just(("mend", 0)),
    st.just(("wait", 0)),
)


def event(number: int, size: int = 4) -> Message:
    return Message(body=b"x" * size, message_id=str(number))


class EmitterTests(unittest.TestCase):
    def setUp(self) -> None:
        self.wire = Wire()
        self.clock = Clock()
        self.emitter = Emitter(cast(Broker, self.wire), self.clock, "job.j")

    def arrived(self) -> list[str]:
        return [message.message_id for _, _, message in self.wire.arrived]

    def test_safe_when_confirmed(self) -> None:
        """An event is published to the topic at once, and safe with the broker's confirm."""
        emitted = self.emitter.emit(event(1))
        self.assertEqual(self.wire.under_way[0][0], ("msgd.events", "job.j", event(1)))
        self.assertNoResult(emitted)
        self.wire.confirm()
        self.successResultOf(emitted)

    def test_another_topic(self) -> None:
        """What goes to another topic takes its turn among all others, also when it is published again."""
        self.emitter.emit(event(1))
        elsewhere = self.emitter.emit(event(2), topic="app.x")
        self.emitter.emit(event(3))
        self.wire.cut()
        self.wire.mend()
        self.clock.advance(PAUSES_S[0])
        self.wire.confirm(3)
        self.successResultOf(elsewhere)
        keys = [(key, message.message_id) for _, key, message in self.wire.arrived]
        self.assertEqual(keys, [("job.j", "1"), ("app.x", "2"), ("job.j", "3")])

    def test_told(self) -> None:
        """What is told is published in its turn, and a flush waits for it; after the end nothing is."""
        self.emitter.emit(event(1))
        self.emitter.tell(event(2))
        flushed = self.emitter.flush()
        self.wire.confirm()
        self.assertNoResult(flushed)
        self.wire.confirm()
        self.successResultOf(flushed)
        self.emitter.tell(event(3))
        self.emitter.end(Superseded("over"))
        self.emitter.tell(event(4))
        self.wire.confirm()
        self.assertEqual(self.arrived(), ["1", "2", "3"])

    def test_flush(self) -> None:
        """A flush waits for what was emitted before it, not for what comes after."""
        self.successResultOf(self.emitter.flush())
        self.emitter.emit(event(1))
        flushed = self.emitter.flush()
        self.emitter.emit(event(2))
        self.assertNoResult(flushed)
        self.wire.confirm()
        self.successResultOf(flushed)

    def test_bounded_number(self) -> None:
        """No more than so many are under way; each confirm lets the next one go."""
        for number in range(UNDER_WAY + 2):
            self.emitter.emit(event(number))
        self.assertEqual(len(self.wire.under_way), UNDER_WAY)
        self.wire.confirm()
        self.assertEqual(len(self.wire.under_way), UNDER_WAY)

    def test_bounded_bytes(self) -> None:
        """Of large events fewer are under way."""
        for number in range(8):
            self.emitter.emit(event(number, 1024 * 1024))
        self.assertEqual(len(self.wire.under_way), UNDER_WAY_BYTES // (1024 * 1024))

    def test_too_fast(self) -> None:
        """A worker that awaits nothing is stopped before it fills the memory."""
        self.patch(module, "WAITING_BYTES", 10)
        for number in range(3):
            self.emitter.emit(event(number))
        self.failureResultOf(self.emitter.emit(event(3)), Overloaded)

    def test_lost_broker(self) -> None:
        """What was not confirmed is published again, in order, once the broker is back and a moment has passed."""
        emitted = [self.emitter.emit(event(number)) for number in range(3)]
        self.wire.cut(arrive=1)
        later = self.emitter.emit(event(3))
        self.clock.advance(PAUSES_S[0])
        self.assertEqual(self.wire.under_way, [])
        self.wire.mend()
        self.clock.advance(PAUSES_S[0])
        self.wire.confirm(4)
        for one in (*emitted, later):
            self.successResultOf(one)
        self.assertEqual(self.arrived(), ["0", "0", "1", "2", "3"])

    def test_refused(self) -> None:
        """A refused event is tried again, more and more slowly; what is confirmed meanwhile is not repeated."""
        first, second = self.emitter.emit(event(1)), self.emitter.emit(event(2))
        self.wire.refuse()
        self.wire.confirm()
        self.successResultOf(second)
        self.clock.advance(PAUSES_S[0])
        self.wire.refuse()
        self.clock.advance(PAUSES_S[0])
        self.assertEqual(self.wire.under_way, [])
        self.clock.advance(PAUSES_S[1])
        self.wire.confirm()
        self.successResultOf(first)
        self.assertEqual(self.arrived(), ["2", "1"])

    def test_lost_claim(self) -> None:
        """Once the claim is lost nothing more is published, and all who wait or come hear of it."""
        waits, flushed = self.emitter.emit(event(1)), self.emitter.flush()
        heard = Deferred.fromCoroutine(_awaits(waits))
        self.wire.cut()
        self.emitter.end(Superseded("it is somebody else's"))
        self.failureResultOf(heard, Superseded)
        self.failureResultOf(flushed, Superseded)
        self.failureResultOf(self.emitter.emit(event(2)), Superseded)
        self.failureResultOf(self.emitter.flush(), Superseded)
        self.wire.mend()
        self.clock.advance(60)
        self.assertEqual(self.wire.under_way, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_waits(self) -> None:
        """An event that nobody awaits may be lost with its claim without a word; its late confirm is harmless."""
        self.emitter.emit(event(1))
        self.emitter.end(Superseded("it is somebody else's"))
        self.wire.confirm()

    def test_a_waiter_that_gives_up(self) -> None:
        """Cancelling the wait for one event does not take it back."""
        emitted = self.emitter.emit(event(1))
        emitted.addErrback(lambda _: None)
        emitted.cancel()
        flushed = self.emitter.flush()
        self.wire.confirm()
        self.successResultOf(flushed)
        self.assertEqual(self.arrived(), ["1"])

    @settings(deadline=None)
    @given(st.lists(STEPS, max_size=60))
    def test_any_outages(self, steps: list[tuple[str, int]]) -> None:
        """Through any outages all events arrive, first in their order, and nothing is called safe before it is."""
        wire, clock = Wire(), Clock()
        emitter = Emitter(cast(Broker, wire), clock, "job.j")
        emitted: list[Deferred[None]] = []

        def arrived() -> list[str]:
            return list(dict.fromkeys(message.message_id for _, _, message in wire.arrived))

        def check(_: None, count: int) -> None:
            self.assertEqual(arrived()[:count], [str(number) for number in range(count)])

        for step, count in steps:
            if step == "emit":
                number = len(emitted)
                emitted.append(emitter.emit(event(number)).addCallback(check, number + 1))
            elif step == "flush":
                emitter.flush().addCallback(check, len(emitted))
            elif step == "confirm":
                wire.confirm(count)
            elif step == "cut":
                wire.cut(count)
            elif step == "mend":
                wire.mend()
            else:
                clock.advance(PAUSES_S[-1])
        wire.mend()
        clock.advance(PAUSES_S[-1])
        wire.confirm(len(emitted))
        self.successResultOf(emitter.flush())
        for one in emitted:
            self.successResultOf(one)
        check(None, len(emitted))


async def _awaits(waits: Deferred[None]) -> None:
    await waits
