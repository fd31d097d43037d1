"""Blocking work off the reactor's thread, several pieces to one trip: a trip costs as much as reading a small page."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

TRIP_PIECES: Final = 16
TRIP_WEIGHT: Final = 512 * 1024
"""Bytes of pages to one trip: some ten milliseconds, so that nothing waits long for what travels with it."""

InThread = Callable[[Callable[[], Any]], "Deferred[Any]"]
"""Performs a call in a thread and fires with what it returns, such as a partial of ``deferToThreadPool``."""

_Piece = tuple[Callable[[], Any], int, "Deferred[Any]"]


class Offload:
    """Performs calls in threads. What comes while all threads are busy makes the next trip together."""

    def __init__(self, in_thread: InThread, *, threads: int) -> None:
        self._in_thread = in_thread
        self._free = threads
        self._waiting: deque[_Piece] = deque()

    def call(self, work: Callable[[], T], *, weight: int = 0) -> Deferred[T]:
        """Fires with what ``work`` returns or raises. ``weight``: about how many bytes it goes through."""
        result: Deferred[T] = Deferred()
        self._waiting.append((work, weight, result))
        self._travel()
        return result

    def _travel(self) -> None:
        while self._free and self._waiting:
            trip: list[_Piece] = []
            weight = 0
            while self._waiting and len(trip) < TRIP_PIECES and weight < TRIP_WEIGHT:
                piece = self._waiting.popleft()
                if not piece[2].called:  # else its caller was cancelled
                    trip.append(piece)
                    weight += piece[1]
            if trip:
                self._free -= 1
                self._in_thread(partial(_perform, trip)).addBoth(self._arrive, trip)

    def _arrive(self, outcomes: Sequence[Any] | Failure, trip: Sequence[_Piece]) -> None:
        self._free += 1
        for at, (_, _, result) in enumerate(trip):
            result.callback(outcomes if isinstance(outcomes, Failure) else outcomes[at])
        self._travel()


def _perform(trip: Sequence[_Piece]) -> list[Any]:
    """In a thread: what each piece returned, or its failure."""
    return [_outcome(work) for work, _, _ in trip]


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception:  # whatever it is, it goes to whoever asked, and the next piece of the trip is done
        return Failure()
