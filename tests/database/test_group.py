"""Group commit, step by step: the threads run when the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from msgd.database import Database, Group, Transaction
from msgd.errors import DatabaseUnavailable
from tests.database.deterministic import Stepped, same_thread

WRITER = "sqlite-writer"


class GroupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads = Stepped()
        path = Path(self.mktemp()).absolute() / "test.sqlite3"
        self.database = Database(f"sqlite:///{path}", reactor=same_thread, prepare=lambda _: None, workers=self.threads)
        starting = Deferred.fromCoroutine(self.database.start())
        self.threads.run()
        self.successResultOf(starting)
        self.batches: list[list[int]] = []
        self.group = self.database.group(self.change, limit=3)

    def tearDown(self) -> None:
        stopping = Deferred.fromCoroutine(self.database.stop())
        self.threads.run()
        self.successResultOf(stopping)

    def change(self, _: Transaction, requests: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(requests))
        if 13 in requests:
            raise LookupError("thirteen breaks its batch")
        if 99 in requests:
            raise DatabaseUnavailable("on purpose")
        return [ValueError("negative") if request < 0 else request * 2 for request in requests]

    def ask(self, *requests: int) -> list[Deferred[int]]:
        return [Deferred.fromCoroutine(self.group(request)) for request in requests]

    def test_joins(self) -> None:
        """What arrives while a batch runs joins the next one, up to the limit, in the order it came."""
        results = self.ask(1, 2, 3, 4, 5)
        self.threads.run()
        self.assertEqual([self.successResultOf(result) for result in results], [2, 4, 6, 8, 10])
        self.assertEqual(self.batches, [[1], [2, 3, 4], [5]])

    def test_result_comes_after_the_commit(self) -> None:
        """No caller hears anything before its batch's transaction is over."""
        (result,) = self.ask(1)
        self.assertNoResult(result)
        self.threads.step(WRITER)
        self.assertEqual(self.successResultOf(result), 2)

    def test_errors_in_the_results(self) -> None:
        """An Exception among the results is raised to the caller of that request; the batch stands."""
        first, bad, good = self.ask(1, -1, 2)
        self.threads.run()
        self.successResultOf(first)
        self.failureResultOf(bad, ValueError)
        self.assertEqual(self.successResultOf(good), 4)
        self.assertEqual(self.batches, [[1], [-1, 2]])

    def test_failed_batch_is_retried_singly(self) -> None:
        """A batch that raises is tried again one by one: only the request at fault fails."""
        first, two, bad, three = self.ask(1, 2, 13, 3)
        self.threads.run()
        self.failureResultOf(bad, LookupError)
        self.assertEqual([self.successResultOf(result) for result in (first, two, three)], [2, 4, 6])
        self.assertEqual(self.batches, [[1], [2, 13, 3], [2], [13], [3]])

    def test_unavailable_database_fails_the_batch(self) -> None:
        """Nothing is tried singly against a database that is not there: all of the batch may be repeated later."""
        first, *rest = self.ask(1, 99, 2)
        self.threads.run()
        self.successResultOf(first)
        for result in rest:
            self.failureResultOf(result, DatabaseUnavailable)
        self.assertEqual(self.batches, [[1], [99, 2]])

    def test_cancelled_request_is_not_performed(self) -> None:
        """A request whose caller gave up before its batch began is left out."""
        first, second, third = self.ask(1, 2, 3)
        second.cancel()
        self.threads.run()
        self.failureResultOf(second, CancelledError)
        self.successResultOf(first)
        self.successResultOf(third)
        self.assertEqual(self.batches, [[1], [3]])

    def test_caller_that_asks_again(self) -> None:
        """A caller may ask again as soon as it has its result."""

        async def twice() -> int:
            return await self.group(await self.group(1))

        result = Deferred.fromCoroutine(twice())
        self.threads.run()
        self.assertEqual(self.successResultOf(result), 4)

    def test_wrong_number_of_results(self) -> None:
        """A change that loses a result is a mistake, told to every caller instead of shifting the results."""
        group: Group[int, int] = self.database.group(lambda _, requests: [1] * (len(requests) + 1))
        result = Deferred.fromCoroutine(group(1))
        self.threads.run()
        self.failureResultOf(result, AssertionError)

    @given(st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 3)), max_size=40))
    def test_every_request_gets_its_own_answer(self, arrivals: list[tuple[int, int]]) -> None:
        """However arrivals and batches interleave, each caller hears once, and what its own request gives."""
        results: list[tuple[int, Deferred[int]]] = []
        for request, steps in arrivals:
            results.append((request, self.ask(request)[0]))
            for _ in range(steps):
                self.threads.step(WRITER)
        self.threads.run()
        for request, result in results:
            if request == 13:
                self.failureResultOf(result, LookupError)
            elif request < 0:
                self.failureResultOf(result, ValueError)
            else:
                self.assertEqual(self.successResultOf(result), request * 2)
