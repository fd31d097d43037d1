"""Group commit: many like requests of many callers in one transaction."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred

from msgd.database.store import Transaction
from msgd.errors import Unavailable

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")


class Writes(Protocol):
    """What a group needs of a database."""

    def write(self, change: Callable[[Transaction], T], /) -> Awaitable[T]: ...


class Group(Generic[Q, R]):
    """``await group(request)``: what arrives while a batch runs joins the next one, at most ``limit`` requests.

    ``change`` gets the requests of a batch in the order in which they came and returns as many results, in that
    order; an Exception among them is raised to the caller of its request, and changes nothing for the others. If
    ``change`` itself raises, its transaction is rolled back and each request is tried again alone, so that a bad one
    fails alone; not so if the database is unavailable: then all fail with that.
    """

    def __init__(
        self,
        database: Writes,
        change: Callable[[Transaction, Sequence[Q]], Sequence[R | Exception]],
        *,
        limit: int,
    ) -> None:
        self._database = database
        self._change = change
        self._limit = limit
        self._waiting: deque[tuple[Q, Deferred[R]]] = deque()
        self._running = False

    async def __call__(self, request: Q) -> R:
        """The result for ``request``, after the commit. Cancelled before its batch begins, it is not performed."""
        result: Deferred[R] = Deferred()
        self._waiting.append((request, result))
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())
        return await result

    async def _run(self) -> None:
        """Perform batches until nothing waits. Raises nothing: all errors go to the callers."""
        while self._waiting:
            batch: list[tuple[Q, Deferred[R]]] = []
            while self._waiting and len(batch) < self._limit:
                request, result = self._waiting.popleft()
                if not result.called:  # else its caller was cancelled
                    batch.append((request, result))
            if batch:
                await self._perform(batch)
        self._running = False

    async def _perform(self, batch: list[tuple[Q, Deferred[R]]]) -> None:
        requests = [request for request, _ in batch]
        try:
            answers = await self._database.write(lambda transaction: self._answers(transaction, requests))
        except Exception as error:  # whatever it is, it goes to those who asked
            if len(batch) > 1 and not isinstance(error, Unavailable):
                for one in batch:
                    await self._perform([one])
                return
            answers = [error] * len(batch)
        for (_, result), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                result.errback(answer)
            else:
                result.callback(answer)

    def _answers(self, transaction: Transaction, requests: Sequence[Q]) -> Sequence[R | Exception]:
        answers = self._change(transaction, requests)
        if len(answers) != len(requests):
            raise AssertionError(f"{self._change!r} gave {len(answers)} results for {len(requests)} requests")
        return answers
