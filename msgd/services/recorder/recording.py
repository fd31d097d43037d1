"""The loop of the recorder that holds the lease: take, store, publish live, confirm, acknowledge (DESIGN §3).

While the live messages of one batch wait for their confirms the next one is being stored; it is published after them.
So there are at most three batches in hand: one being confirmed, one being committed, one arriving.

After any trouble (a database that gave up, a broker that was lost) it is open what was done. The journal knows: what
lies after ``live_pos`` is published again before anything else is, as after a takeover. Then the batches that were not
finished are begun anew; those of their events that were stored after all are known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker, Consumer, Delivery
from msgd.broker.topology import JOB_EVENTS_QUEUE, TALK_QUEUE
from msgd.clock import Clock
from msgd.errors import InvalidInput, LeaseLost, Unavailable
from msgd.jobs.interface import Jobs, Reply
from msgd.journal.interface import Appended, Journal, Lease
from msgd.messages.events import Recorded
from msgd.messages.ids import IdMaker
from msgd.services.recorder import live
from msgd.services.recorder.bell import Bell
from msgd.services.recorder.figures import Figures
from msgd.services.recorder.intake import BATCH, Intake
from msgd.services.recorder.posting import post, show
from msgd.services.recorder.sorting import Given, Item, Refused, read, reason
from msgd.work.outage import pause

_log = Logger()

PREFETCH: Final = 3 * BATCH
"""Of each queue: the batches in hand. With the largest events that is much memory; a broker does not count bytes."""

IDLE_S: Final = 2.0
"""How soon a notifier finds that it has missed the last message (DESIGN §3, "Live form")."""

QUEUES: Final = (TALK_QUEUE, JOB_EVENTS_QUEUE)


class _Stored(Struct):
    """What came of the events of one batch."""

    recorded: list[Recorded]
    replies: list[Reply]
    refused: list[Refused]


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
        self._in_hand: list[list[Item]] = []  # batches taken and not acknowledged
        self._pushing: Deferred[None] | None = None  # the batch that waits for its confirms

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
            await self._take_back()
            tried = tried + 1 if self._clock.seconds() - begun_s < IDLE_S else 1
            await pause(self._clock, tried)

    def end(self) -> None:
        """Have :meth:`run` return when the batches in hand are done; no more are taken."""
        self._ending = True
        self._bell.ring()

    async def close(self) -> None:
        """Stop consuming: what was not acknowledged goes back to the queues, in its order."""
        if self._pushing is not None:
            self._pushing.addErrback(lambda _: None)
            self._pushing.cancel()
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
        while not (self._ending and self._pushing is None):
            if self._pushing is not None and self._pushing.called:
                await self._pushed()
            batch = [] if self._ending else self._intake.take()
            self._figures.oldest_s = self._intake.oldest_s
            due_s = self._head_s + IDLE_S - self._clock.seconds()
            if batch:
                await self._record(batch)
            elif self._pushing is not None or due_s > 0:
                await self._bell.wait(max(due_s, 0.1))
            else:
                await self._idle()
        await self._tell_lived()

    async def _idle(self) -> None:
        """Nothing has come for a while: say so, for those who have missed what came last."""
        await post(self._broker, [live.head(self._epoch, first=self._lived + 1, last=self._lived, counts={})])
        self._head_s = self._clock.seconds()
        await self._tell_lived()

    async def _record(self, batch: list[Item]) -> None:
        """One batch, up to the publishing of its live messages."""
        self._in_hand.append(batch)
        given = [item for item in batch if isinstance(item, Given)]
        shown = show(self._broker, live.transient(self._epoch, [one.event for one in given if one.event.transient]))
        stored = await self._store([one for one in given if not one.event.transient])
        await self._pushed()
        stored.refused.extend(item for item in batch if isinstance(item, Refused))
        self._count(batch, given, stored)
        self._pushing = Deferred.fromCoroutine(self._push(stored, shown, batch))
        self._pushing.addBoth(self._ring)

    async def _store(self, given: Sequence[Given]) -> _Stored:
        """Append the events; if the database refuses one, the halves, until that one stands alone."""
        try:
            appended = await self._append(given)
        except InvalidInput as error:
            if len(given) == 1:
                return _Stored([], [], [Refused(given[0].delivery, reason(error))])
            middle = len(given) // 2
            first = await self._store(given[:middle])
            second = await self._store(given[middle:])
            return _Stored(
                first.recorded + second.recorded, first.replies + second.replies, first.refused + second.refused
            )
        self._figures.known += len(appended.known)
        self._figures.stale += len(appended.stale)
        return _Stored(list(appended.recorded), list(appended.within or ()), [])

    async def _append(self, given: Sequence[Given]) -> Appended[Sequence[Reply]]:
        lived = self._lived
        appended = await self._journal.append(
            self._lease,
            [one.event for one in given],
            live_pos=lived,
            within=lambda transaction, given, recorded: self._jobs.record(transaction, recorded, given),
        )
        self._said = lived
        self._epoch = appended.epoch
        return appended

    async def _push(self, stored: _Stored, shown: Deferred[None], batch: list[Item]) -> None:
        """Publish what follows from a stored batch, await the confirms, then acknowledge it."""
        postings = []
        if stored.recorded:
            first, last = stored.recorded[0].pos, stored.recorded[-1].pos
            postings = live.stored(self._epoch, stored.recorded, first=first, last=last)
            postings += live.replies(self._epoch, stored.recorded, stored.replies)
        elif self._clock.seconds() - self._head_s >= IDLE_S:
            postings = [live.head(self._epoch, first=self._lived + 1, last=self._lived, counts={})]
        if postings:
            self._head_s = self._clock.seconds()
            await post(self._broker, postings)
        if stored.recorded:
            self._lived = stored.recorded[-1].pos
        await shown
        dead = {id(one.delivery) for one in stored.refused}
        for one in stored.refused:
            _log.info("an event in {queue} is made dead: {why}", queue=one.delivery.queue, why=one.reason)
            await one.delivery.dead(one.reason)
            batch[:] = [item for item in batch if item.delivery is not one.delivery]
        for item in batch:
            if id(item.delivery) not in dead:
                item.delivery.ack()
        self._in_hand.remove(batch)

    def _ring(self, result: Failure | None) -> Failure | None:
        self._bell.ring()
        return result

    async def _pushed(self) -> None:
        """Await the end of the batch that is being pushed, if there is one. Raises what it met."""
        pushing, self._pushing = self._pushing, None
        if pushing is not None:
            await pushing

    def _count(self, batch: Sequence[Item], given: Sequence[Given], stored: _Stored) -> None:
        self._figures.batches += 1
        self._figures.last_batch = len(batch)
        self._figures.recorded += len(stored.recorded)
        self._figures.transient += sum(one.event.transient for one in given)
        self._figures.dead += len(stored.refused)
        self._figures.replies += len(stored.replies)

    # -- trouble and takeover -----------------------------------------------------------------------------------------

    async def _take_back(self) -> None:
        """Let what is under way come to its end; what is not finished then waits to be begun anew."""
        try:
            await self._pushed()
        except CancelledError:
            raise
        except Exception as error:
            _note(error)
        in_hand, self._in_hand = self._in_hand, []
        for batch in reversed(in_hand):
            self._intake.give_back(batch, self._clock.seconds())

    async def _catch_up(self) -> None:
        """Publish what was stored and perhaps not published: what lies after ``live_pos``."""
        state = await self._journal.head()
        self._epoch = state.epoch
        self._said = state.live_pos
        self._lived = max(self._lived, state.live_pos)
        while self._lived < state.pos:
            page = await self._journal.read(["#"], after=self._lived, limit=BATCH, upto=state.pos)
            wanted = await self._wanted(page.events)
            await post(
                self._broker,
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
