"""Which live buckets this process hears: bound while somebody uses them, and for a while after."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, FirstError, gatherResults, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from msgd.broker.interface import ReplyQueue
from msgd.broker.topology import LIVE
from msgd.errors import BrokerUnavailable, Unavailable
from msgd.journal.interface import Journal
from msgd.messages.topics import BUCKETS, bucket, is_pattern
from msgd.notifier.limits import LINGER_S
from msgd.notifier.line import Line
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

_log = Logger()

ALL: Final = tuple(range(BUCKETS))


def buckets_of(pattern: str) -> Sequence[int]:
    """The buckets in which events of a topic or pattern travel."""
    return ALL if is_pattern(pattern) else (bucket(pattern),)


class Buckets:
    """Binds and unbinds the buckets of a reply queue, and tells the line from where on each is whole."""

    def __init__(self, line: Line, journal: Journal, clock: Any) -> None:
        self._line = line
        self._journal = journal
        self._clock = clock
        self._queue: ReplyQueue | None = None
        self._users: dict[int, int] = {}  # of each bucket
        self._idle_since_s: dict[int, float] = {}
        self._changing = DeferredLock()
        self._is_binding = False
        self._settling: dict[Deferred[None], tuple[str, ...]] = {}
        self._tasks = Tasks("binding live buckets")
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    def start(self) -> None:
        """Begin to unbind what is not used."""
        self._sweeping.start(LINGER_S, now=False).addErrback(
            lambda failure: _log.failure("unused live buckets stay bound", failure)
        )

    def stop(self) -> None:
        """Bind and unbind no more; who waits is cancelled. Stopping twice is harmless."""
        if self._sweeping.running:
            self._sweeping.stop()
        for waiting in list(self._settling):
            waiting.cancel()
        self._tasks.cancel()
        self._queue = None

    def attach(self, queue: ReplyQueue) -> None:
        """This is the queue."""
        self._queue = queue

    @property
    def used(self) -> int:
        """How many buckets somebody uses."""
        return len(self._users)

    # -- who uses them ------------------------------------------------------------------------------------------------

    def hold(self, pattern: str) -> None:
        """Have the buckets of a topic or pattern bound until :meth:`let_go`; see :meth:`settled`."""
        for number in buckets_of(pattern):
            self._users[number] = self._users.get(number, 0) + 1
            self._idle_since_s.pop(number, None)
        if self.floor(pattern) is None and not self._is_binding:
            self._tasks.begin(self._bind())

    def let_go(self, pattern: str) -> None:
        """The counterpart of ``hold``."""
        for number in buckets_of(pattern):
            self._users[number] -= 1
            if not self._users[number]:
                del self._users[number]
                self._idle_since_s[number] = self._clock.seconds()

    def floor(self, *patterns: str) -> int | None:
        """From where on a listener that is added now is offered everything; None while its buckets are not bound."""
        numbers = [number for pattern in patterns for number in buckets_of(pattern)]
        if not all(self._line.is_settled(number) for number in numbers):
            return None
        return self._line.floor(numbers)

    def settled(self, *patterns: str) -> Deferred[None]:
        """Fires when the buckets of patterns that are held are bound: when :meth:`floor` is known. Cancel it to stop
        waiting; without a broker it may be long."""
        if self.floor(*patterns) is not None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._settling.__delitem__)
        self._settling[waiting] = patterns
        return waiting

    # -- binding ------------------------------------------------------------------------------------------------------

    async def _bind(self) -> None:
        """Bind what is held, until all of it is."""
        self._is_binding = True
        try:
            while missing := self._missing():
                await wait_out(self._clock, lambda: self._change(lambda: self._bind_these(self._missing())))
                self._tell(missing)
        finally:
            self._is_binding = False

    def _missing(self) -> list[int]:
        return [number for number in self._users if not self._line.is_settled(number)]

    async def _bind_these(self, numbers: Sequence[int]) -> None:
        queue = self._queue
        if queue is None:
            raise BrokerUnavailable("live messages cannot be heard yet")
        bound = [Deferred.fromCoroutine(queue.bind(LIVE, str(number))) for number in numbers]
        try:
            await gatherResults(bound, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        head = await self._journal.head()
        for number in numbers:
            self._line.settle(number, head.pos)

    def _tell(self, numbers: Sequence[int]) -> None:
        if not any(self._line.is_settled(number) for number in numbers):
            return
        for waiting, patterns in list(self._settling.items()):
            if waiting in self._settling and self.floor(*patterns) is not None:
                del self._settling[waiting]
                waiting.callback(None)

    def _sweep(self) -> None:
        """Unbind what nobody has used for a while."""
        now_s = self._clock.seconds()
        idle = [number for number, since_s in self._idle_since_s.items() if now_s - since_s >= LINGER_S]
        if idle:
            self._tasks.begin(self._change(lambda: self._unbind(idle)))

    async def _unbind(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number in self._users or self._queue is None:
                continue
            self._idle_since_s.pop(number, None)
            self._line.forget(number)
            try:
                await self._queue.unbind(LIVE, str(number))
            except Unavailable:
                pass  # it stays bound, and what comes is not counted

    async def _change(self, change: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        """One change of the bindings after the other: an unbind must not overtake a later bind."""
        await self._changing.acquire()
        try:
            await change()
        finally:
            self._changing.release()
