"""Parts start in order and stop in reverse, whatever comes between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial import unittest

from msgd.work.parts import Parts


class Wheel:
    """A part that tells what it does in ``told``, and waits in each step until it is let go."""

    def __init__(self, name: str, told: list[str], *, heeds: bool = True) -> None:
        self.name = name
        self._told = told
        self._heeds = heeds  # whether a start heeds its cancellation
        self.waits: list[Deferred[None]] = []

    async def start(self) -> None:
        self._told.append(f"start {self.name}")
        waits: Deferred[None] = Deferred()
        self.waits.append(waits)
        try:
            await waits
        except CancelledError:
            if self._heeds:
                self._told.append(f"give up {self.name}")
                raise
        self._told.append(f"started {self.name}")

    async def stop(self) -> None:
        self._told.append(f"stop {self.name}")
        waits: Deferred[None] = Deferred()
        self.waits.append(waits)
        await waits
        self._told.append(f"stopped {self.name}")

    def go_on(self, error: Exception | None = None) -> bool:
        """Let the present step end; False if there is none."""
        for waits in self.waits:
            if not waits.called:
                if error is not None:
                    waits.errback(error)
                else:
                    waits.callback(None)
                return True
        return False


class PartsTests(unittest.TestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        self.wheels = [Wheel(name, self.told) for name in "abc"]
        self.parts = Parts(self.wheels)

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.parts.start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.parts.stop())

    def test_order(self) -> None:
        """Each part starts when the one before it has started, and stops when the one after it has stopped."""
        started = self.start()
        for wheel in self.wheels:
            wheel.go_on()
        self.successResultOf(started)
        stopped = self.stop()
        for wheel in reversed(self.wheels):
            self.assertNoResult(stopped)
            wheel.go_on()
        self.successResultOf(stopped)
        starts = [f"{did} {name}" for name in "abc" for did in ("start", "started")]
        stops = [f"{did} {name}" for name in "cba" for did in ("stop", "stopped")]
        self.assertEqual(self.told, starts + stops)

    def test_a_start_that_fails(self) -> None:
        """What was begun is stopped, the failed part too, before the error is raised; the rest is never started."""
        started = self.start()
        self.wheels[0].go_on()
        self.wheels[1].go_on(ValueError("b"))
        self.assertNoResult(started)
        self.wheels[1].go_on()
        self.wheels[0].go_on()
        self.failureResultOf(started, ValueError)
        self.assertEqual(self.told[-4:], ["stop b", "stopped b", "stop a", "stopped a"])
        self.successResultOf(self.stop())

    def test_a_stop_that_fails(self) -> None:
        """The error of one part's stop is logged, and the others are stopped all the same."""
        started = self.start()
        for wheel in self.wheels:
            wheel.go_on()
        self.successResultOf(started)
        stopped = self.stop()
        self.wheels[2].go_on(ValueError("c"))
        self.wheels[1].go_on()
        self.wheels[0].go_on()
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_stop_during_the_start(self) -> None:
        """The start under way is cancelled, what was begun is stopped, and the start ends with CancelledError."""
        started = self.start()
        self.wheels[0].go_on()
        stopped = self.stop()
        self.assertEqual(self.told[-2:], ["give up b", "stop b"])
        self.wheels[1].go_on()
        self.wheels[0].go_on()
        self.successResultOf(stopped)
        self.failureResultOf(started, CancelledError)

    def test_never_started(self) -> None:
        """Stopping what was never started does nothing, and it stays stopped."""
        self.successResultOf(self.stop())
        self.failureResultOf(self.start(), CancelledError)
        self.assertEqual(self.told, [])

    @given(
        heeds=st.lists(st.booleans(), min_size=3, max_size=3),
        steps=st.lists(st.sampled_from(["start", "stop", "go", "fail", "cancel"]), max_size=30),
    )
    def test_any_race(self, heeds: list[bool], steps: list[str]) -> None:
        """However starts, stops, failures and cancellations fall: when a stop returns nothing runs, nothing was
        stopped that was not begun, nor begun twice, and the order held."""
        told: list[str] = []
        wheels = [Wheel(name, told, heeds=heeds[at]) for at, name in enumerate("abc")]
        parts = Parts(wheels)
        starts: list[Deferred[None]] = []
        results: list[Deferred[object]] = []
        for step in steps:
            if step == "start" and not starts:
                starts.append(Deferred.fromCoroutine(parts.start()))
                results.append(starts[0].addErrback(lambda failure: failure.trap(CancelledError, ValueError)))
            elif step == "stop":
                results.append(Deferred.fromCoroutine(parts.stop()))
            elif step == "cancel" and starts:
                starts[0].cancel()
            elif step in ("go", "fail"):
                any(wheel.go_on(ValueError() if step == "fail" else None) for wheel in wheels)
        last = Deferred.fromCoroutine(parts.stop())
        while any(wheel.go_on() for wheel in wheels):
            pass
        self.successResultOf(last)
        for result in results:
            self.assertTrue(result.called)
        begun = [line[-1] for line in told if line.startswith("start ")]
        ended = [line[-1] for line in told if line.startswith("stop ")]
        self.assertEqual(begun, list("abc")[: len(begun)])
        self.assertEqual(ended, begun[::-1])
        self.flushLoggedErrors(ValueError)
