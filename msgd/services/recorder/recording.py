"""The loop of the recorder that holds the lease: take, store, publish live, confirm, acknowledge (DESIGN §3).

One batch at a time; what arrives meanwhile is the next one. Storing a batch while the live messages of the last one
wait for their confirms was tried and rejected: in interleaved runs (20,000 events over RabbitMQ, on SQLite and on
PostgreSQL) it was mostly slower and never clearly faster, for both want the interpreter, and the confirms take little.

After any trouble (a database that gave up, a broker that was lost) it is open what was done. The journal knows: what
lies after ``live_pos`` is published again before anything else is, as after a takeover. Then the batch that was not
finished is begun anew; those of its events that were stored after all are known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker, Consumer, Delivery
from msgd.broker.topology import DEAD, JOB_EVENTS_QUEUE, TALK_QUEUE
from msgd.clock import Clock
from msgd.errors import InvalidInput, LeaseLost, Unavailable
from msgd.jobs.interface import Jobs, Reply
from msgd.journal.interface import Appended, Journal, Lease
from msgd.messages.dead_letters import dead_letter
from msgd.messages.events import Event, Recorded
from msgd.messages.ids import IdMaker
from msgd.messages.wire import event_to_message
from msgd.services.recorder import live
from msgd.services.recorder.bell import Bell
from msgd.services.recorder.figures import Figures
from msgd.services.recorder.intake import BATCH, Intake
from msgd.services.recorder.posting import Poster
from msgd.services.recorder.sorting import Given, Item, Refused, read
from msgd.work.outage import pause

_log = Logger()

PREFETCH: Final = 2 * BATCH
"""Of each queue: the batch in hand and the next; of large events fewer (the broker contract's HELD_BYTES)."""

IDLE_S: Final = 2.0
"""How soon a notifier finds that it has missed the last message (DESIGN §3, "Live form")."""

QUEUES: Final = (TALK_QUEUE, JOB_EVENTS_QUEUE)


_Told = tuple[Given, Event]
"""An event, and what it came in."""


class _Stored(Struct):
    """What came of the events of one batch."""

    recorded: list[Recorded]
    replies: list[Reply]
    refused: list[tuple[_Told, str]]  # and why


class Recording:
    """What is recorded under one lease."""

    def __init__(
        self,
        lease: Lease,
        *,
        journal: Journal,
        jobs: Jobs,
        broker: Broker,
        clock: Clock,
        new_id: IdMaker,
        figures: Figures,
    ) -> None:
        self._lease = lease
        self._journal = journal
        self._jobs = jobs
        self._broker = broker
        self._poster = Poster(broker, clock)
        self._clock = clock
        self._new_id = new_id
        self._figures = figures
        self._intake = Intake(QUEUES)
        self._bell = Bell(clock)
        self._consumers: list[Consumer] = []
        self._ending = False
        self._epoch = ""
        self._lived = 0  # live push has come that far
        self._said = 0  # of that, what the journal has been told
        self._head_s = 0.0  # when the latest head message went out
        self._in_hand: list[Item] = []  # the batch that was taken and is not acknowledged

    async def run(self) -> None:
        """Record until :meth:`end`. Raises LeaseLost. Cancel it to stop at once; :meth:`close` it in either case."""
        tried = 0
        while not self._ending:
            begun_s = self._clock.seconds()
            try:
                await self._broker.ready()
                await self._catch_up()
                await self._consume()
                await self._go_on()
                return
            except (LeaseLost, CancelledError):
                raise
            except Exception as error:
                self._figures.troubles += 1
                _note(error)
            in_hand, self._in_hand = self._in_hand, []
            self._intake.give_back(in_hand, self._clock.seconds())
            tried = tried + 1 if self._clock.seconds() - begun_s < IDLE_S else 1
            await pause(self._clock, tried)

    def end(self) -> None:
        """Have :meth:`run` return when the batch in hand is done; no more are taken."""
        self._ending = True
        self._bell.ring()

    async def close(self) -> None:
        """Stop consuming: what was not acknowledged goes back to the queues, in its order."""
        for consumer in self._consumers:
            await consumer.stop()
        self._intake.clear()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _consume(self) -> None:
        """Begin to take deliveries; consumers survive the loss of a connection by themselves."""
        for queue in QUEUES[len(self._consumers) :]:
            self._consumers.append(
                await self._broker.consume(queue, self._arrived, prefetch=PREFETCH, ordered=True),
            )

    def _arrived(self, delivery: Delivery) -> None:
        now_s = self._clock.seconds()
        self._intake.add(read(delivery, now_ms=int(now_s * 1000), new_id=self._new_id), now_s)
        self._bell.ring()

    async def _go_on(self) -> None:
        """Batch after batch, until the end is wanted or something fails."""
        while not self._ending:
            self._figures.oldest_s = self._intake.oldest_s
            batch = self._intake.take()
            if batch:
                await self._record(batch)
            elif (due_s := self._head_s + IDLE_S - self._clock.seconds()) > 0:
                await self._bell.wait(due_s)
            else:
                await self._idle()
        await self._tell_lived()

    async def _idle(self) -> None:
        """Nothing has come for a while: say so, for those who have missed what came last."""
        await self._poster.post([live.head(self._epoch, first=self._lived + 1, last=self._lived, counts={})])
        self._head_s = self._clock.seconds()
        await self._tell_lived()

    async def _record(self, batch: list[Item]) -> None:
        """One batch, from the queues to the acknowledgement."""
        self._in_hand = batch
        told = [(item, event) for item in batch if isinstance(item, Given) for event in item.events]
        transient = [event for _, event in told if event.transient]
        refused = [item for item in batch if isinstance(item, Refused)]
        shown = self._poster.show(live.transient(self._epoch, transient))
        stored = await self._store([one for one in told if not one[1].transient] if transient else told)
        self._count(len(told) + len(refused), len(transient), stored, len(refused))
        await self._push(stored)
        await shown
        for (given, event), reason in stored.refused:
            if len(given.events) == 1:
                refused.append(Refused(given.delivery, reason))
            else:
                await self._bury(given.delivery, event, reason)
        for one in refused:
            await self._refuse(one)
        for item in self._in_hand:
            item.delivery.ack()
        self._in_hand = []

    async def _store(self, told: Sequence[_Told]) -> _Stored:
        """Append the events; if the database refuses one, the halves, until that one stands alone."""
        if not told:
            return _Stored([], [], [])
        try:
            appended = await self._append([event for _, event in told])
        except InvalidInput as error:
            if len(told) == 1:
                return _Stored([], [], [(told[0], error.reason)])
            middle = len(told) // 2
            first = await self._store(told[:middle])
            second = await self._store(told[middle:])
            return _Stored(
                first.recorded + second.recorded, first.replies + second.replies, first.refused + second.refused
            )
        self._figures.known += len(appended.known)
        self._figures.stale += len(appended.stale)
        return _Stored(list(appended.recorded), list(appended.within or ()), [])

    async def _append(self, events: Sequence[Event]) -> Appended[Sequence[Reply]]:
        lived = self._lived
        appended = await self._journal.append(
            self._lease,
            events,
            live_pos=lived,
            within=lambda transaction, given, recorded: self._jobs.record(transaction, recorded, given),
        )
        self._said = lived
        self._epoch = appended.epoch
        return appended

    async def _push(self, stored: _Stored) -> None:
        """Publish what follows from a stored batch, and await the confirms."""
        postings = []
        if stored.recorded:
            first, last = stored.recorded[0].pos, stored.recorded[-1].pos
            postings = live.stored(self._epoch, stored.recorded, first=first, last=last)
            postings += live.replies(self._epoch, stored.recorded, stored.replies)
        elif self._clock.seconds() - self._head_s >= IDLE_S:
            postings = [live.head(self._epoch, first=self._lived + 1, last=self._lived, counts={})]
        if postings:
            await self._poster.post(postings)
            self._head_s = self._clock.seconds()
        if stored.recorded:
            self._lived = stored.recorded[-1].pos

    async def _refuse(self, refused: Refused) -> None:
        """Make one delivery dead; it is not in hand any more then."""
        _log.info("an event in {queue} is made dead: {why}", queue=refused.delivery.queue, why=refused.reason)
        await refused.delivery.dead(refused.reason)
        self._in_hand = [item for item in self._in_hand if item.delivery is not refused.delivery]

    async def _bury(self, delivery: Delivery, event: Event, reason: str) -> None:
        """Make one event of a batch dead; the others of its delivery are stored, and it is acknowledged with them."""
        _log.info("an event of a batch in {queue} is made dead: {why}", queue=delivery.queue, why=reason)
        message = event_to_message(event)
        letter = dead_letter(message, reason=reason, queue=delivery.queue, exchange=delivery.exchange, key=delivery.key)
        await self._broker.publish(DEAD, delivery.key, letter)

    def _count(self, events: int, transient: int, stored: _Stored, refused: int) -> None:
        self._figures.batches += 1
        self._figures.last_batch = events
        self._figures.recorded += len(stored.recorded)
        self._figures.transient += transient
        self._figures.dead += len(stored.refused) + refused
        self._figures.replies += len(stored.replies)

    # -- trouble and takeover -----------------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Publish what was stored and perhaps not published: what lies after ``live_pos``."""
        state = await self._journal.head()
        self._epoch = state.epoch
        self._said = state.live_pos
        self._lived = max(self._lived, state.live_pos)
        while self._lived < state.pos:
            page = await self._journal.read(["#"], after=self._lived, limit=BATCH, upto=state.pos)
            wanted = await self._wanted(page.events)
            await self._poster.post(
                live.stored(self._epoch, page.events, first=self._lived + 1, last=page.upto)
                + live.replies(self._epoch, page.events, wanted),
            )
            self._lived = page.upto
            self._head_s = self._clock.seconds()
        await self._tell_lived()

    async def _wanted(self, recorded: Sequence[Recorded]) -> Sequence[Reply]:
        """Who waits for the events of these jobs; asked again, it changes nothing."""
        appended = await self._journal.append(
            self._lease, [], within=lambda transaction, *_: self._jobs.record(transaction, recorded)
        )
        return appended.within or ()

    async def _tell_lived(self) -> None:
        if self._lived > self._said:
            lived = self._lived
            await self._journal.lived(self._lease, lived)
            self._said = lived


def _note(error: Exception) -> None:
    if isinstance(error, Unavailable):
        _log.warn("recording stopped, and begins anew where it was: {error}", error=error)
    else:
        _log.failure("recording stopped, and begins anew where it was", Failure(error))
