"""Keeping the lease, with time and the database in the test's hand."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.database import Database
from msgd.errors import LeaseLost
from msgd.journal.sql import SQLJournal
from msgd.services.recorder.lease import RENEW_S, SAFETY_S, TTL_S, Keeper
from tests.database.deterministic import Stepped, same_thread

T = TypeVar("T")


class KeeperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.steps = Stepped()
        path = Path(self.mktemp()).absolute() / "test.sqlite3"
        self.database = Database(f"sqlite:///{path}", reactor=same_thread, workers=self.steps)
        self.now(self.database.start())
        self.journal = SQLJournal(self.database, now_ms=lambda: int(self.clock.seconds() * 1000))
        self.keeper = Keeper(self.journal, self.clock, "one")
        lease = self.now(self.keeper.acquire())
        assert lease is not None
        self.lease = lease
        self.keeping = Deferred.fromCoroutine(self.keeper.keep(self.lease))

        self.addCleanup(self.end)

    def end(self) -> None:
        self.keeping.addErrback(lambda _: None)
        self.keeping.cancel()
        self.steps.run()
        self.now(self.database.stop())

    def now(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """The result of ``work``, the database doing all that is asked of it."""
        result = Deferred.fromCoroutine(work)
        self.steps.run()
        return self.successResultOf(result)

    def is_free(self) -> bool:
        """Whether another recorder gets the lease."""
        return self.now(self.journal.acquire("other", ttl_ms=1)) is not None

    def test_kept(self) -> None:
        """While the database answers, the lease is kept for as long as one likes."""
        for _ in range(20):
            self.clock.advance(RENEW_S)
            self.steps.run()
        self.assertNoResult(self.keeping)
        self.assertFalse(self.is_free())

    def test_no_answer(self) -> None:
        """When the database does not answer, keeping ends before anybody else can have the lease."""
        self.clock.advance(RENEW_S)
        self.clock.advance(TTL_S - SAFETY_S - RENEW_S)
        self.failureResultOf(self.keeping, LeaseLost)
        self.assertFalse(self.is_free())
        self.clock.advance(TTL_S)  # the renewal was performed after all, late
        self.assertTrue(self.is_free())

    def test_late_answer_counts_from_the_question(self) -> None:
        """A renewal is good from when it was asked for: when it was made, nobody here can know."""
        self.clock.advance(RENEW_S)
        late_s = TTL_S - SAFETY_S - RENEW_S - 0.1
        self.clock.advance(late_s)
        self.steps.run()
        self.assertNoResult(self.keeping)
        self.clock.advance(TTL_S - SAFETY_S - late_s - 0.1)
        self.assertNoResult(self.keeping)
        self.clock.advance(0.1)
        self.failureResultOf(self.keeping, LeaseLost)

    def test_taken(self) -> None:
        """When another one has the lease, the next renewal says so."""
        other = SQLJournal(self.database, now_ms=lambda: 3_600_000)
        self.assertIsNotNone(self.now(other.acquire("other", ttl_ms=1)))
        self.clock.advance(RENEW_S)
        self.steps.run()
        self.failureResultOf(self.keeping, LeaseLost)

    def test_cancelled(self) -> None:
        """Cancelled while it asks or while it waits, it ends with that."""
        self.clock.advance(RENEW_S)
        self.keeping.cancel()
        self.failureResultOf(self.keeping, CancelledError)
        self.keeping = Deferred.fromCoroutine(self.keeper.keep(self.lease))
        self.keeping.cancel()
        self.failureResultOf(self.keeping, CancelledError)
