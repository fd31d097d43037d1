"""Worker threads: blocking calls leave the reactor's thread here."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Protocol


class Worker(Protocol):
    """Whoever performs calls elsewhere: the shape of Twisted's IWorker, so that its memory worker fits in tests."""

    def do(self, work: Callable[[], None], /) -> None:
        """Perform ``work``, later, in the order of the calls."""

    def quit(self) -> None:
        """Take no more work; perform what was given, then end."""


class Threads:
    """``count`` threads that take work from one queue. ``work`` must not raise.

    The threads are daemons: a process that exits without :meth:`quit` is not held up, and what it had not committed is
    rolled back by the database, as after a crash.
    """

    def __init__(self, name: str, count: int) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._count = count
        for number in range(count):
            Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def do(self, work: Callable[[], None], /) -> None:
        self._queue.put(work)

    def quit(self) -> None:
        # Not joined: the reactor's thread calls this, and a start that is cancelled may leave a thread waiting for a
        # server that does not answer, for as long as the driver's timeout.
        for _ in range(self._count):
            self._queue.put(None)
        self._count = 0

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work  # what it refers to is not kept until the next call comes
