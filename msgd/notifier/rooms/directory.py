"""Who is admitted to private rooms: all of them in memory, so that no event waits for a database.

Whoever changes a room tells all notifiers on ``msgd.control``, and each reads that room again. What is lost on the way
is found by looking, every few seconds, whether the private rooms are still those that were read. A room that cannot be
read admits nobody, and neither does any while the database was not there for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.broker.topology import ANY_ROOM, CONTROL, room_key
from msgd.errors import Forbidden, Unavailable
from msgd.messages.envelope import Message
from msgd.notifier.rooms import store
from msgd.notifier.rooms.interface import Closed, room_topic
from msgd.notifier.tasks import Tasks
from msgd.work.outage import pause, wait_out

_log = Logger()

LOOK_S: Final = 5.0
"""Between two looks for changes that nobody told of: a lost message lets nobody read on for longer."""

UNSURE_LOOKS: Final = 6
"""After so many looks in vain, half a minute, nobody is admitted to any room: who was put out may still be in here."""

_ALL: Final = ""
"""Stands for all rooms, where one is named."""


class RoomDirectory:
    """The private rooms. A :class:`~msgd.work.parts.Part`."""

    def __init__(self, database: store.Database, broker: Broker, clock: Any) -> None:
        self._database = database
        self._broker = broker
        self._clock = clock
        self._closed: dict[str, Closed] = {}
        self._mark: tuple[int, int] | None = None  # of what was read
        self._unread: set[str] = {_ALL}  # rooms that could not be read
        self._wanted: set[str] = set()  # rooms to be read
        self._waiting: list[Deferred[None]] = []  # for the next try to read them
        self._reading = False
        self._in_vain = 0
        self._listeners: list[Callable[[str], None]] = []
        self._queue: ReplyQueue | None = None
        self._looking = LoopingCall(lambda: Deferred.fromCoroutine(self._look()))
        self._looking.clock = clock
        self._tasks = Tasks("the directory of rooms")

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the private rooms; if the database is not there now, they are read once it is."""
        self._tasks.begin(self._open())
        await self._read(_ALL)
        self._looking.start(LOOK_S, now=False).addErrback(
            lambda failure: _log.failure("changes of rooms may stay unnoticed", failure)
        )

    async def _open(self) -> None:
        self._queue = await wait_out(
            self._clock,
            lambda: self._broker.reply_queue(self._told, bindings=[(CONTROL, ANY_ROOM)], lost=self._lost),
        )

    async def stop(self) -> None:
        """Listen no more. Stopping twice, or before the start, is harmless."""
        if self._looking.running:
            self._looking.stop()
        self._tasks.cancel()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.close()

    def listen(self, changed: Callable[[str], None]) -> None:
        """Call ``changed`` with a room's name when somebody may no longer be admitted to it."""
        self._listeners.append(changed)

    # -- who is admitted ----------------------------------------------------------------------------------------------

    def admits(self, room: str, sub: str) -> bool:
        """Whether ``sub`` may be in a room, as far as its being private goes. False while that is not known."""
        if not self._knows(room):
            return False
        closed = self._closed.get(room)
        return closed is None or sub in closed.members

    def check(self, room: str, sub: str) -> None:
        """Raises Forbidden or Unavailable unless it does."""
        if not self._knows(room):
            raise Unavailable(
                f"who is admitted to {room_topic(room)} cannot be read now: try again", retry_after=LOOK_S
            )
        if not self.admits(room, sub):
            raise Forbidden(f"{room_topic(room)} is private, and {sub!r} is no member", where="topic")

    def _knows(self, room: str) -> bool:
        return self._in_vain < UNSURE_LOOKS and room not in self._unread and _ALL not in self._unread

    # -- changes ------------------------------------------------------------------------------------------------------

    async def changed(self, room: str) -> None:
        """A room was changed here: tell everybody. Returns when this notifier knows."""
        sent = self._broker.publish(CONTROL, room_key(room), Message(body=b"{}", persistent=False))
        sent.addErrback(_made_up_for)
        await self._read(room)

    def _told(self, delivery: Delivery) -> None:
        self._want({delivery.key.removeprefix(ANY_ROOM[:-1])})

    def _lost(self) -> None:
        self._tasks.begin(self._look())

    async def _look(self) -> None:
        """Has something changed that nobody told of?"""
        try:
            mark = await self._database.read(store.closed_mark)
            if mark != self._mark:
                versions = await self._database.read(store.closed_versions)
                known = {name: closed.version for name, closed in self._closed.items()}
                self._want({name for name, _ in versions.items() ^ known.items()})
                self._mark = mark
        except CancelledError:
            raise
        except Unavailable as error:
            self._in_vain += 1
            if self._in_vain == UNSURE_LOOKS:
                _log.warn("the private rooms cannot be read, nobody is admitted to rooms: {error}", error=error)
        except Exception:  # looking goes on, and after some looks in vain nobody is admitted
            self._in_vain += 1
            _log.failure("the private rooms cannot be read")
        else:
            self._in_vain = 0

    # -- reading ------------------------------------------------------------------------------------------------------

    def _want(self, names: Iterable[str]) -> None:
        self._wanted.update(names)
        if self._wanted and not self._reading:
            self._reading = True
            self._tasks.begin(self._read_on())

    async def _read(self, room: str) -> None:
        """Returns when the room has been read, or could not be; it is tried on then."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._want({room})
        await waiting

    async def _read_on(self) -> None:
        """Read what is wanted, one try after the other, until it has been read."""
        tried = 0
        try:
            while self._wanted:
                names, self._wanted = self._wanted, set()
                waiting, self._waiting = self._waiting, []
                tried = 0 if await self._could_read(names) else tried + 1
                for one in waiting:
                    one.callback(None)
                if tried:
                    await pause(self._clock, tried)
        finally:
            self._reading = False

    async def _could_read(self, names: Set[str]) -> bool:
        """Whether these rooms have been read. They are unknown until they are, whatever was in the way."""
        try:
            await self._read_these(names)
        except CancelledError:
            raise
        except Unavailable as error:
            _log.info("rooms cannot be read, trying on: {error}", error=error)
        except Exception:  # until they are read nobody is admitted to them, so it is tried for ever
            _log.failure("rooms cannot be read, trying on")
        else:
            return True
        self._unread |= names
        self._wanted |= names
        return False

    async def _read_these(self, names: Set[str]) -> None:
        some = None if _ALL in names else names
        found = await self._database.read(lambda transaction: store.closed_rooms(transaction, some))
        self._unread -= names
        for name in sorted({*found, *self._closed} if some is None else some):
            before, now = self._closed.get(name), found.get(name)
            if now is None:
                self._closed.pop(name, None)
            else:
                self._closed[name] = now
            if now is not None and (before is None or before.members - now.members):
                for listener in self._listeners:
                    listener(name)


def _made_up_for(failure: Failure) -> None:
    """Nobody could be told: the others look by themselves."""
    failure.trap(Unavailable)
