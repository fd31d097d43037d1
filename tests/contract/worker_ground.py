"""What the suites of the worker runtime share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial import unittest

from msgd.broker.interface import Broker
from msgd.jobs.interface import Claim, Claimed, ClaimRequest
from msgd.work import Context, Done, Outcome
from msgd.work.once import Once
from tests.work.world import World

if TYPE_CHECKING:
    _Base = unittest.TestCase
else:
    _Base = object


class Count(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of the jobs in these tests."""

    upto: int = 1


class Gate:
    """A worker's perform that tells when it has begun and waits until it is let go, or its slice is over."""

    def __init__(self) -> None:
        self.begun: list[Context[Count]] = []
        self.cancelled = 0
        self.go = Once()
        self._awaited: list[tuple[int, Deferred[None]]] = []

    async def __call__(self, context: Context[Count]) -> Outcome:
        self.begun.append(context)
        for entry in [entry for entry in self._awaited if entry[0] <= len(self.begun)]:
            self._awaited.remove(entry)
            entry[1].callback(None)
        try:
            await self.go.wait()
        except CancelledError:
            self.cancelled += 1
            raise
        return Done(len(self.begun))

    async def has_begun(self, count: int = 1) -> None:
        """Returns when so many attempts have begun."""
        if len(self.begun) < count:
            awaited: Deferred[None] = Deferred()
            self._awaited.append((count, awaited))
            await awaited


class WorkerBase(_Base):
    """Mix into a trial TestCase that says which database and which broker."""

    def database_url(self) -> str:
        """An empty database of this test's own."""
        raise NotImplementedError

    def make_broker(self) -> Broker:
        """A connection to the broker of this test."""
        raise NotImplementedError

    async def opened(self) -> World:
        world = World(self.database_url(), self.make_broker)
        await world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(world.close()))
        return world

    def counts(self, number: Callable[[], int], expected: int) -> Callable[[], Any]:
        async def condition() -> bool:
            return number() >= expected

        return condition

    async def steal(self, world: World, id_: str, thief: str = "thief") -> Claim:
        """What another process does that gets the message again."""
        request = ClaimRequest(id_, (await world.jobs.get(id_)).slice, thief, redelivered=True)
        claimed = await world.jobs.claim(request)
        assert isinstance(claimed, Claimed), claimed
        return claimed.claim
