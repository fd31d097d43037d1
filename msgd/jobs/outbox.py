"""The publisher of the outbox: what was committed here goes out at once, what others left or became due is swept up.

A row of the outbox is leased to whoever is to publish it: to its writer at first, then to whichever sweeper takes it. A
process that dies, or gives up, does nothing about it: when the lease is over, a sweeper finds the row. So a message may
go out twice, and never not at all.

Of one job at most one message is under way, so that its rows go out in the order of their ids and a call only after the
confirms of the events before it. Rows of different jobs do not wait for one another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.clock import Clock, DelayedCall, milliseconds, sleep
from msgd.errors import BrokerUnavailable, Unavailable
from msgd.jobs.interface import OutboxRow, OutboxStore

_log = Logger()

LEASE_MS: Final = 5_000
"""How long a sweeper has for the rows that it took: far longer than a broker takes to confirm them."""

AGAIN_MS: Final = 30_000
"""After which a confirmed event that the recorder has not stored is published again: a broker was lost with it. Doubled
each time, up to an hour, so that a recorder that lags is not buried under copies."""

_LAST_DOUBLING: Final = 7

EVENTS_S: Final = 0.5
"""For which a confirmed event is left alone: by then the recorder has deleted nearly every one, so that nothing has to
be written about it. Far below the lease, and whoever sweeps after a crash publishes it once more, to be known."""

POLL_S: Final = 1.0
"""How often to look for rows that others left: one question to an index."""

SHORTEST_S: Final = 0.01
"""A pause at least between two looks, whatever the clocks of several hosts say about what is due."""

TAKEN: Final = 500
"""Rows swept up at a time: as many as a transaction is good for."""

HELD: Final = 10_000
HELD_BYTES: Final = 64 * 1024 * 1024
"""Rows in this process's hands, and their bodies; what is more stays in the table until there is room."""

GRACE_S: Final = 3.0
"""How long :meth:`Publisher.stop` waits for confirms: a broker that is there gives them in milliseconds."""


class Publisher:
    """Publishes the outbox of ``store`` on ``broker``.

    Hand :meth:`post` to :class:`~msgd.jobs.sql.SqlJobs`. It works before :meth:`start`, which begins the sweeping.
    """

    def __init__(self, store: OutboxStore, broker: Broker, *, clock: Clock) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._lines: dict[str, deque[OutboxRow]] = {}
        """By job, the rows still to be published, the first of them under way (or stalled)."""
        self._stalled: dict[str, None] = {}  # lines whose first row waits for the broker
        self._held: dict[int, int] = {}  # rows in hand, and the sizes of their bodies
        self._held_bytes = 0
        self._left: dict[str, int] = {}
        """Jobs of which a row was left to the sweepers, and until when it is leased: later ones are left too."""
        self._confirmed: list[OutboxRow] = []
        self._events: list[OutboxRow] = []  # confirmed, and most of them soon recorded
        self._events_due: DelayedCall | None = None
        self._settling = False
        self._sweeping: Deferred[None] | None = None
        self._nap: Deferred[None] | None = None
        self._observing = False
        self._stopping = False
        self._idle: list[Deferred[None]] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to sweep."""
        self._stopping = False
        if not self._observing:
            self._observing = True
            self._broker.observe(_Reconnected(self))
        if self._sweeping is None:
            self._sweeping = Deferred.fromCoroutine(self._sweep())

    async def stop(self) -> None:
        """Take nothing more, wait a little for the confirms under way, settle them. Harmless if never started."""
        self._stopping = True
        self._wake()
        self._settle_events()
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            await sweeping
        timer = self._clock.callLater(GRACE_S, self._tell_idle)
        while self._busy() and timer.active():
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        _cancel(timer)

    def _busy(self) -> bool:
        """Whether something is under way that a broker and a database that are there bring to an end."""
        return self._settling or (self._broker.accepting and len(self._lines) > len(self._stalled))

    def _tell_idle(self) -> None:
        """Wake whoever stops this publisher, to look again."""
        waiting, self._idle = self._idle, []
        for one in waiting:
            one.callback(None)

    # -- rows in -------------------------------------------------------------------------------------------------------

    def post(self, rows: Sequence[OutboxRow]) -> None:
        """Publish rows that were just committed here. Called in the reactor's thread; never raises."""
        for row in rows:
            if self._stopping or self._full() or self._left.get(row.job, 0) > self._now_ms():
                self._leave([row])
            else:
                self._enqueue(row)

    def _enqueue(self, row: OutboxRow) -> None:
        if row.id in self._held:
            return  # still under way from before, its lease ran out meanwhile
        self._held[row.id] = size = len(row.message.body)
        self._held_bytes += size
        name = row.job or f"#{row.id}"  # what belongs to no job waits for nothing
        line = self._lines.get(name)
        if line is not None:
            line.append(row)
            return
        self._lines[name] = deque([row])
        self._advance(name)

    def _full(self, room: int = 0) -> bool:
        return len(self._held) + room > HELD or self._held_bytes >= HELD_BYTES

    def _let_go(self, row: OutboxRow) -> None:
        self._held_bytes -= self._held.pop(row.id, 0)

    def _leave(self, rows: Iterable[OutboxRow]) -> None:
        """Leave rows to the sweepers, who find them when their leases are over."""
        for row in rows:
            self._let_go(row)
            if row.job:
                self._left[row.job] = max(row.due_ms, self._left.get(row.job, 0))

    # -- publishing ----------------------------------------------------------------------------------------------------

    def _advance(self, name: str) -> None:
        """Publish the first row of a line, if the broker takes it now."""
        if not self._broker.accepting:
            self._stalled[name] = None
            return
        row = self._lines[name][0]
        try:
            sent = self._broker.publish(row.exchange, row.key, row.message)
        except Exception:  # raised at once or later, a refusal is settled in one place
            sent = fail()
        sent.addCallbacks(self._sent, self._not_sent, (name, row), {}, (name, row), {})
        sent.addErrback(_could_not_go_on, row)

    def _sent(self, _: None, name: str, row: OutboxRow) -> None:
        self._held_bytes -= self._held[row.id]
        self._held[row.id] = 0
        if row.is_event and not self._stopping:
            self._events.append(row)
            if len(self._events) >= TAKEN:
                self._settle_events()
            elif self._events_due is None:
                self._events_due = self._clock.callLater(EVENTS_S, self._settle_events)
        else:
            self._settle_soon([row])
        line = self._lines[name]
        line.popleft()
        if not line:
            del self._lines[name]
        else:
            self._advance(name)

    def _not_sent(self, reason: Failure, name: str, row: OutboxRow) -> None:
        if reason.check(BrokerUnavailable):
            self._stalled[name] = None
        else:
            _log.warn(
                "outbox row {row} for {key!r} on {exchange} was not published, it will be tried again: {reason}",
                row=row.id,
                key=row.key,
                exchange=row.exchange,
                reason=reason.getErrorMessage(),
            )
            self._leave(self._lines.pop(name))
        self._tell_idle()

    def reconnected(self) -> None:
        """The broker takes messages again: go on with the lines that wait for it, as far as they are still ours."""
        stalled, self._stalled = self._stalled, {}
        now_ms = self._now_ms()
        for name in stalled:
            if self._stopping or self._lines[name][0].due_ms <= now_ms:
                self._leave(self._lines.pop(name))
            else:
                self._advance(name)
        self._wake()

    # -- settling ------------------------------------------------------------------------------------------------------

    def _settle_events(self) -> None:
        """It is time to write about the events that the recorder has not deleted yet."""
        due, self._events_due = self._events_due, None
        if due is not None:
            _cancel(due)
        events, self._events = self._events, []
        self._settle_soon(events)

    def _settle_soon(self, rows: Iterable[OutboxRow]) -> None:
        self._confirmed.extend(rows)
        if self._confirmed and not self._settling:
            self._settling = True
            Deferred.fromCoroutine(self._settle())

    async def _settle(self) -> None:
        """Tell the store what was confirmed; what is confirmed meanwhile makes the next batch."""
        while self._confirmed:
            batch, self._confirmed = self._confirmed[:TAKEN], self._confirmed[TAKEN:]
            alike: dict[int, list[OutboxRow]] = {}
            for row in batch:
                alike.setdefault(min(row.sent, _LAST_DOUBLING) if row.is_event else 0, []).append(row)
            for sent, rows in alike.items():
                try:
                    await self._store.published(rows, again_ms=self._now_ms() + (AGAIN_MS << sent))
                except Unavailable as error:
                    # They will be published once more, and known for what they are.
                    _log.warn("{count} published outbox rows stay as they were: {error}", count=len(rows), error=error)
                except Exception:  # nobody cancels this: stop() awaits it. The rows come due again
                    _log.failure("{count} published outbox rows stay as they were", count=len(rows))
            for row in batch:
                self._let_go(row)
        self._settling = False
        self._tell_idle()

    # -- sweeping ------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while not self._stopping:
            pause = POLL_S
            try:
                pause = await self._take()
            except Unavailable as error:
                _log.warn("the outbox cannot be read, trying on: {error}", error=error)
            except Exception:  # nobody cancels this, only its nap: what is in the outbox must go out in the end
                _log.failure("the outbox could not be swept, trying on")
            if pause and not self._stopping:
                self._nap = sleep(self._clock, pause)
                try:
                    await self._nap
                except CancelledError:
                    pass  # woken up
                self._nap = None

    async def _take(self) -> float:
        """Take what is due; seconds until the next look, 0 if there was more."""
        now_ms = self._now_ms()
        self._left = {job: until_ms for job, until_ms in self._left.items() if until_ms > now_ms}
        if not self._broker.accepting or self._full(TAKEN):
            return POLL_S
        due_ms = await self._store.next_due_ms()
        if due_ms is None:
            return POLL_S
        if due_ms > now_ms:
            return min(max((due_ms - now_ms) / 1000, SHORTEST_S), POLL_S)
        rows = await self._store.take(lease_ms=LEASE_MS, limit=TAKEN)
        for row in rows:
            self._left.pop(row.job, None)
            self._enqueue(row)
        return 0.0 if len(rows) == TAKEN else SHORTEST_S

    def _wake(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    def _now_ms(self) -> int:
        return milliseconds(self._clock)


class _Reconnected:
    """Tells the publisher when the broker takes messages again."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def connected(self) -> None:
        self._publisher.reconnected()

    def unblocked(self) -> None:
        self._publisher.reconnected()

    def disconnected(self, reason: str) -> None:
        """What is under way fails by itself."""

    def blocked(self, reason: str) -> None:
        """What is under way waits for its confirm."""


def _could_not_go_on(reason: Failure, row: OutboxRow) -> None:
    _log.failure("the outbox could not go on after row {row}", reason, row=row.id)


def _cancel(timer: DelayedCall) -> None:
    if timer.active():
        timer.cancel()
