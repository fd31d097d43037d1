"""A worker out of one async function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from msgspec import Struct

from msgd.jobs.interface import Need
from msgd.work.interface import Context, JobType, Outcome

P = TypeVar("P", bound=Struct)


class FunctionWorker(Generic[P]):
    """A worker without anything to start or stop. Conforms to :class:`~msgd.work.interface.Worker`."""

    def __init__(self, type_: JobType[P], perform: Callable[[Context[P]], Awaitable[Outcome]]) -> None:
        self.type = type_
        self._perform = perform

    def perform(self, context: Context[P]) -> Awaitable[Outcome]:
        return self._perform(context)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""


def job(
    name: str, params: type[P], *, results: tuple[str, ...] = ("result",), needs: tuple[Need, ...] = ()
) -> Callable[[Callable[[Context[P]], Awaitable[Outcome]]], FunctionWorker[P]]:
    """Make the decorated function the worker of a new job type; its docstring's first line is the type's summary."""

    def decorate(perform: Callable[[Context[P]], Awaitable[Outcome]]) -> FunctionWorker[P]:
        summary = (perform.__doc__ or "").strip().partition("\n")[0]
        return FunctionWorker(JobType(name, params, results, summary, needs), perform)

    return decorate
