"""The threads in which storage blocks: apart from the reactor's, so that a slow disk does not stop the look-up of
names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred

from msgd.database.threads import Threads
from msgd.errors import StorageUnavailable

T = TypeVar("T")

THREADS: Final = 8
"""Calls under way at once: disks and S3 answer several at a time better than one after the other."""


class Offload:
    """Performs calls in threads from its start to its stop."""

    def __init__(self, reactor: Any, threads: int = THREADS) -> None:
        self._reactor = reactor
        self._count = threads
        self._threads: Threads | None = None

    def start(self) -> None:
        if self._threads is None:
            self._threads = Threads("blobs", self._count)

    def stop(self) -> None:
        """Take no more calls; those under way end by themselves."""
        if self._threads is not None:
            self._threads.quit()
            self._threads = None

    async def call(self, work: Callable[..., T], *args: Any) -> T:
        """What ``work`` returns or raises. Cancelled, it goes on in its thread, and nobody hears of it."""
        if self._threads is None:
            raise StorageUnavailable("the storage of blobs is not open")
        result: Deferred[T] = Deferred()
        self._threads.do(partial(self._perform, result, partial(work, *args)))
        return await result

    def _perform(self, result: Deferred[T], work: Callable[[], T]) -> None:
        """In a thread."""
        try:
            value = work()
        except BaseException as error:  # of a thread: it goes to whoever waits, who would wait for ever
            self._reactor.callFromThread(result.errback, error)
        else:
            self._reactor.callFromThread(result.callback, value)
