"""Checks of health, and what they add up to."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import DatabaseUnavailable
from msgd.ops.health import TIMEOUT_S, Finding, Health, Report


async def good() -> Finding:
    return Finding(True, "RabbitMQ 3.10.8")


class HealthTest(SynchronousTestCase):
    """Liveness and readiness."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.health = Health(self.clock)

    def ready(self) -> Report:
        report: Report = self.successResultOf(Deferred.fromCoroutine(self.health.ready()))
        return report

    def test_nothing_to_check(self) -> None:
        """Without checks a process is live and ready."""
        self.assertTrue(self.health.live().ok)
        self.assertEqual(self.ready(), Report(True, {}))

    def test_all_well(self) -> None:
        """All checks well: ready, with each one's detail."""
        self.health.add("broker", good)
        self.health.add("database", good)
        self.assertEqual(self.ready().checks["database"], Finding(True, "RabbitMQ 3.10.8"))
        self.assertEqual((self.ready().ok, list(self.ready().checks)), (True, ["broker", "database"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_is_not(self) -> None:
        """One check that finds something wrong makes the process not ready, though live."""

        async def bad() -> Finding:
            return Finding(False, "disk full")

        self.health.add("broker", good)
        self.health.add("disk", bad)
        self.assertEqual((self.ready().ok, self.ready().checks["disk"].detail), (False, "disk full"))
        self.assertTrue(self.health.live().ok)

    def test_one_raises(self) -> None:
        """Errors on purpose say what they say; unexpected ones are logged and name no more than their kind."""

        async def down() -> Finding:
            raise DatabaseUnavailable("PostgreSQL does not answer")

        async def bug() -> Finding:
            raise KeyError("postgresql://me:hunter2@h/")

        self.health.add("database", down)
        self.health.add("other", bug)
        report = self.ready()
        self.assertEqual(report.checks["database"], Finding(False, "PostgreSQL does not answer"))
        self.assertEqual(report.checks["other"], Finding(False, "KeyError"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_one_hangs(self) -> None:
        """A check that does not answer is cancelled in time, and the others' findings still come."""
        cancelled: list[object] = []

        async def hang() -> Finding:
            return await Deferred(cancelled.append)

        self.health.add("broker", good)
        self.health.add("database", hang)
        waiting = Deferred.fromCoroutine(self.health.ready())
        self.clock.advance(TIMEOUT_S - 0.1)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        report: Report = self.successResultOf(waiting)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(report.checks["database"], Finding(False, "no answer within 3 s"))
        self.assertTrue(report.checks["broker"].ok)

    def test_asker_is_gone(self) -> None:
        """When whoever asks stops waiting, the checks are cancelled, and that is no finding."""
        cancelled: list[object] = []

        async def hang() -> Finding:
            return await Deferred(cancelled.append)

        self.health.add("broker", hang)
        self.health.add("database", hang)
        waiting = Deferred.fromCoroutine(self.health.ready())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(cancelled), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_names_are_given_once(self) -> None:
        """Two checks of one name would hide each other."""
        self.health.add("broker", good)
        self.assertRaises(ValueError, self.health.add, "broker", good)
