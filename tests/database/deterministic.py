"""Threads that run, and a reactor that turns, when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted._threads import createMemoryWorker
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from zope.interface import implementer

from msgd.database.threads import Worker


@implementer(IReactorFromThreads)
class _SameThread:
    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None:
        f(*args, **kwargs)


class SteppedReactor(Clock):
    """A clock that takes calls from threads, at once."""

    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None:
        f(*args, **kwargs)


same_thread: Any = _SameThread()
"""A reactor whose thread is the caller's own."""


class Stepped:
    """Makes workers that queue their work; each call of :meth:`step` performs one piece of it."""

    def __init__(self) -> None:
        self._steps: dict[str, Callable[[], bool]] = {}

    def __call__(self, name: str, count: int) -> Worker:
        worker, self._steps[name] = createMemoryWorker()
        made: Worker = worker
        return made

    def step(self, name: str) -> bool:
        """Perform the next work of the workers named ``name``; whether there was any."""
        return self._steps[name]()

    def run(self) -> None:
        """Perform all there is."""
        while any(step() for step in self._steps.values()):
            pass
