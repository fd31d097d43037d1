"""Group commit of the embedded broker: what comes while a transaction is written joins the next one, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from msgd.broker.embedded import store
from msgd.broker.embedded.queues import DurableQueue, Entry
from msgd.database import Database, Transaction
from msgd.errors import BrokerRefused, BrokerUnavailable, Unavailable

_log = Logger()

BATCH_MESSAGES: Final = 1000
"""Messages in one transaction; their confirms are told in one turn of the reactor, about 10 ms."""

RETRY_S: Final = 1.0
"""How long to wait before the file is tried again that could not be written (a full disk)."""


class Listener(Protocol):
    """Who is told what the writer did; the broker."""

    def stored(self, queues: Iterable[DurableQueue]) -> None:
        """These queues have messages that they had not."""

    def writing_stopped(self, reason: str) -> None: ...

    def writing_resumed(self) -> None: ...


class _Publish:
    """One message on its way into the file; ``settles``: the id of the message that it replaces, as a dead letter."""

    __slots__ = ("confirm", "packed", "settles", "targets")

    def __init__(self, targets: list[tuple[DurableQueue, Entry]], packed: bytes, settles: int | None) -> None:
        self.targets = targets
        self.packed = packed
        self.settles = settles
        self.confirm: Deferred[None] = Deferred()


class _Batch:
    """What one transaction writes."""

    def __init__(self) -> None:
        self.publishes: list[_Publish] = []
        self.changes: list[tuple[Callable[[Transaction], None], Deferred[None]]] = []
        self.settled: list[int] = []
        self.counted: list[int] = []
        self.pages: list[DurableQueue] = []
        self.expected: dict[int, bool] = {}
        self.handed: dict[int, int] = {}

    def place(self) -> None:
        """Settle for each message whether it goes on from memory, or waits in the file."""
        for publish in self.publishes:
            for queue, entry in publish.targets:
                expected = self.expected[entry.id] = queue.expect(entry)
                if expected:
                    self.handed[queue.number] = entry.id
            if publish.settles is not None:
                self.settled.append(publish.settles)

    def apply(self, transaction: Transaction) -> list[list[Entry]]:
        """In the writer's thread; returns the pages that were asked for."""
        for change, _ in self.changes:
            change(transaction)
        inserts = [
            store.Insert(entry.id, entry.exchange, entry.key, publish.packed)
            for publish in self.publishes
            for _, entry in publish.targets
        ]
        if inserts:
            store.insert(transaction, inserts)
        if self.handed:
            store.mark_handed(transaction, list(self.handed.items()))
        if self.settled:
            store.delete(transaction, self.settled)
        if self.counted:
            store.count_deliveries(transaction, self.counted)
        return [store.load(transaction, store.Page(queue.number, queue.loaded_to)) for queue in self.pages]

    def succeed(self, pages: list[list[Entry]]) -> dict[DurableQueue, None]:
        """Tell the queues; returns those that have more to hand out."""
        told: dict[DurableQueue, None] = {}
        for publish in self.publishes:
            for queue, entry in publish.targets:
                if self.expected[entry.id]:
                    queue.arrived(entry)
                told[queue] = None
        for queue, page in zip(self.pages, pages, strict=True):
            queue.loading = False
            queue.loaded(page)
            told[queue] = None
        return told

    def confirm(self) -> None:
        for publish in self.publishes:
            publish.confirm.callback(None)
        for _, done in self.changes:
            done.callback(None)

    def fail(self, error: Exception) -> None:
        for publish in self.publishes:
            for queue, entry in publish.targets:
                queue.refused(self.expected[entry.id], entry)
        for queue in self.pages:
            queue.loading = False
        for publish in self.publishes:
            publish.confirm.errback(error)
        for _, done in self.changes:
            done.errback(error)


class Writer:
    """Collects what is to be written until :meth:`flush`, then writes batch after batch until nothing is left."""

    def __init__(self, database: Database, clock: IReactorTime, listener: Listener) -> None:
        self._database = database
        self._clock = clock
        self._listener = listener
        self._publishes: deque[_Publish] = deque()
        self._next = _Batch()
        self._running = False
        self._stopping = False
        self._patience: Deferred[None] | None = None
        self._idle: list[Deferred[None]] = []

    def publish(
        self, targets: list[tuple[DurableQueue, Entry]], packed: bytes, *, settles: int | None = None
    ) -> Deferred[None]:
        """Store a message in its queues; fires after the commit."""
        publish = _Publish(targets, packed, settles)
        self._publishes.append(publish)
        return publish.confirm

    def settled(self, id_: int) -> None:
        """Delete a message."""
        self._next.settled.append(id_)

    def came_back(self, id_: int) -> None:
        """Count one more delivery of a message."""
        self._next.counted.append(id_)

    def page(self, queue: DurableQueue) -> None:
        """Load the next messages of ``queue`` into it."""
        queue.loading = True
        self._next.pages.append(queue)

    def change(self, change: Callable[[Transaction], None]) -> Deferred[None]:
        """Perform ``change``, before everything else of its batch; fires after the commit."""
        done: Deferred[None] = Deferred()
        self._next.changes.append((change, done))
        return done

    def flush(self) -> None:
        """Begin to write, unless that is under way already."""
        if not self._running and self._has_work():
            self._running = True
            Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Write what was asked for; what a full disk does not take fails with BrokerUnavailable."""
        self._stopping = True
        if self._patience is not None:
            self._patience.cancel()
        self.flush()
        if self._running:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle

    def _has_work(self) -> bool:
        batch = self._next
        return bool(self._publishes or batch.settled or batch.changes or batch.counted or batch.pages)

    async def _run(self) -> None:
        while self._has_work():
            batch, self._next = self._next, _Batch()
            batch.publishes = list(islice(self._publishes, BATCH_MESSAGES))
            for _ in batch.publishes:
                self._publishes.popleft()
            batch.place()
            await self._write(batch)
        self._running = False
        idle, self._idle = self._idle, []
        for one in idle:
            one.callback(None)

    async def _write(self, batch: _Batch) -> None:
        """Write one batch, however long the disk is full. Raises nothing."""
        blocked = False
        while True:
            try:
                pages = await self._database.write(batch.apply)
            except Unavailable as error:
                if self._stopping:
                    _log.error("what was not written yet is lost by this stop: {error}", error=error.message)
                    batch.fail(BrokerUnavailable(error.message, where=error.where))
                    return
                if not blocked:
                    blocked = True
                    self._listener.writing_stopped(error.message)
                await self._pause()
            except Exception as error:  # nothing that passes: whoever published is told that it is not stored
                _log.failure("the embedded broker's file could not be written")
                batch.fail(BrokerRefused(f"the embedded broker could not store it: {error}"))
                return
            else:
                break
        if blocked:
            self._listener.writing_resumed()
        queues = batch.succeed(pages)
        batch.confirm()
        self._listener.stored(queues)

    async def _pause(self) -> None:
        self._patience = deferLater(self._clock, RETRY_S)
        try:
            await self._patience
        except CancelledError:  # by stop, for one last try
            pass
        self._patience = None
