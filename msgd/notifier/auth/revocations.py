"""Tokens taken back before their end: in the database for good, in the memory of every notifier within a second.

Whoever revokes writes the row, then tells all notifiers on ``msgd.control``; each reads the table again, and ends what
the revoked have open. A message that is lost is made up for by reading every :data:`LOOK_S` anyway. While the table
cannot be read nobody is let in: somebody might have been put out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import DeferredLock
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.broker.topology import CONTROL, REVOKE_KEY
from msgd.clock import milliseconds
from msgd.errors import DatabaseUnavailable, TokenRevoked, Unavailable
from msgd.messages.envelope import Message
from msgd.notifier.auth import store
from msgd.notifier.auth.revoked import SUB, Revocation, Revoked
from msgd.notifier.doors import OpenDoor, OpenDoors
from msgd.notifier.interface import Principal, Suspend
from msgd.notifier.operations import BAD_TOKEN
from msgd.notifier.tasks import Tasks
from msgd.work.outage import wait_out

_log = Logger()

LOOK_S: Final = 2.0
"""Between two readings: what a lost message costs at most."""

UNSURE_S: Final = 30.0
"""After so long without a reading nobody is let in. A database's failover takes less."""


class Revocations:
    """Who has been put out. A :class:`~msgd.work.parts.Part`."""

    def __init__(
        self,
        database: store.Database,
        broker: Broker,
        doors: OpenDoors,
        clock: Any,
        *,
        suspend: Sequence[Suspend] = (),
    ) -> None:
        """``suspend``: stops what goes on without a token."""
        self._database = database
        self._broker = broker
        self._doors = doors
        self._clock = clock
        self._suspend = suspend
        self._revoked = Revoked()
        self._read_s = float("-inf")
        self._asked = 0  # readings that were asked for
        self._served = 0  # of these, the last one that has been served
        self._turn = DeferredLock()
        self._queue: ReplyQueue | None = None
        self._tasks = Tasks("revocations")
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read once, if that is possible; then go on by itself."""
        self._doors.watch(self._opened)
        await self._look()
        self._looking.start(LOOK_S, now=False).addErrback(
            lambda failure: _log.failure("revocations are not read any more", failure)
        )
        self._tasks.begin(self._listen())

    async def stop(self) -> None:
        """Read no more. Stopping twice, or before the start, is harmless."""
        if self._looking.running:
            self._looking.stop()
        self._tasks.cancel()
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.close()

    async def _listen(self) -> None:
        bindings = [(CONTROL, REVOKE_KEY)]
        self._queue = await wait_out(
            self._clock, lambda: self._broker.reply_queue(self._told, bindings=bindings, lost=self._lost)
        )

    def _told(self, delivery: Delivery) -> None:
        self._tasks.begin(self._look())

    def _lost(self) -> None:
        """Something may have been told meanwhile."""
        self._tasks.begin(self._look())

    # -- what is asked of it ------------------------------------------------------------------------------------------

    def check(self, who: Principal) -> None:
        """Raises TokenRevoked if the token of ``who`` was taken back, Unavailable if that is not known."""
        if not 0 <= self._clock.seconds() - self._read_s <= UNSURE_S:
            raise Unavailable("whose tokens have been revoked cannot be read just now", where="token")
        if self._revoked.covers(who):
            raise TokenRevoked("the token has been revoked: log in anew", where="token")

    async def add(self, given: Revocation) -> Revocation:
        """Revoke, here at once and everywhere within a second; returns what holds now. Raises DatabaseUnavailable."""
        made = await self._database.write(partial(self._add, given))
        await self._changed()
        return made

    def _add(self, given: Revocation, transaction: store.Transaction) -> Revocation:
        """In the database's thread. Who cannot act with a token any more does not act without one either."""
        if given.kind == SUB:
            for suspend in self._suspend:
                suspend(transaction, given.value)
        return store.add_revocation(transaction, given)

    async def lift(self, kind: str, value: str) -> bool:
        """Take a revocation back; whether there was one."""
        lifted = await self._database.write(lambda transaction: store.lift_revocation(transaction, kind, value))
        if lifted:
            await self._changed()
        return lifted

    async def newest(self, limit: int) -> Sequence[Revocation]:
        """Those that still concern somebody, the newest first."""
        now_ms = self._now_ms()
        return await self._database.read(lambda transaction: store.list_revocations(transaction, now_ms, limit))

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _changed(self) -> None:
        # Before it is answered it holds here; elsewhere it is a matter of milliseconds, or of LOOK_S.
        self._tasks.begin(self._tell())
        await self._look()

    async def _tell(self) -> None:
        try:
            await self._broker.publish(CONTROL, REVOKE_KEY, Message(body=b"{}", persistent=False))
        except Unavailable as error:
            _log.info("other notifiers cannot be told of a revocation, and find it themselves: {error}", error=error)

    async def _look(self) -> None:
        """Returns when the table has been read, or could not be. Many who ask at once share a reading."""
        self._asked += 1
        mine = self._asked
        await self._turn.acquire()
        try:
            if self._served < mine:
                served = self._asked
                await self._read()
                self._served = served
        except DatabaseUnavailable as error:
            if self._clock.seconds() - self._read_s > UNSURE_S:
                _log.warn("revocations cannot be read, so nobody is let in: {error}", error=error)
        finally:
            self._turn.release()

    async def _read(self) -> None:
        began_s = self._clock.seconds()
        query = partial(store.read_revoked, known=self._revoked, now_ms=self._now_ms())
        found = await self._database.read(query)
        self._read_s = began_s
        if found is not self._revoked:
            self._revoked = found
            for door in self._doors:
                self._end_revoked(door)

    def _opened(self, door: OpenDoor) -> None:
        """A door has opened, for somebody whose token was verified a moment ago: much can happen in a moment."""
        if door.principal is not None and self._revoked.covers(door.principal):
            self._clock.callLater(0, self._end_revoked, door)

    def _end_revoked(self, door: OpenDoor) -> None:
        if door.principal is not None and self._revoked.covers(door.principal):
            door.close(BAD_TOKEN, "the token has been revoked")

    def _now_ms(self) -> int:
        return milliseconds(self._clock)
