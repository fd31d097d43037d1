"""What can be asked of rooms: each command checks the right and the form, stores the change with its event, and has
every notifier know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from msgd.clock import Clock, milliseconds, sleep
from msgd.errors import Conflict, Forbidden, InvalidInput, NotFound
from msgd.jobs.interface import Jobs, OutboxRow
from msgd.journal.interface import Journal
from msgd.messages import json
from msgd.messages.events import Event
from msgd.messages.ids import IdMaker
from msgd.notifier.access import Access
from msgd.notifier.interface import Principal
from msgd.notifier.rooms import store
from msgd.notifier.rooms.directory import RoomDirectory
from msgd.notifier.rooms.forms import NewRoom, RoomChange
from msgd.notifier.rooms.interface import (
    CHANGED,
    CREATED,
    DELETED,
    DESCRIPTION_CHARACTERS,
    JOINED,
    LEFT,
    MEMBERS_GIVEN,
    TITLE_CHARACTERS,
    Member,
    Room,
    check_name,
    check_sub,
    room_topic,
)

SCANNED: Final = 5000
"""Rooms looked at for one page of those that the caller may see; the page ends there, and says where to go on."""

BATCH: Final = 500
"""Rooms read at once."""

RECORDED_S: Final = 5.0
LOOK_S: Final = 0.1
"""How long, and how often, it is asked whether the journal has had the end of a deleted room, which takes milliseconds
while there is a recorder; what comes later stays, for whoever has a grant."""


class Rooms:
    """The commands, for any principal."""

    def __init__(
        self,
        database: store.Database,
        directory: RoomDirectory,
        access: Access,
        journal: Journal,
        jobs: Jobs,
        *,
        clock: Clock,
        new_id: IdMaker,
    ) -> None:
        """``jobs`` has the outbox, in which what changes a room also puts the event that tells of it."""
        self._database = database
        self._directory = directory
        self._access = access
        self._journal = journal
        self._jobs = jobs
        self._clock = clock
        self._new_id = new_id

    # -- looking ------------------------------------------------------------------------------------------------------

    async def page(self, who: Principal, after: str, limit: int) -> tuple[Sequence[tuple[Room, bool]], str | None]:
        """The next rooms that ``who`` may read, each with whether it is a member, and after which to go on."""
        found: list[tuple[Room, bool]] = []
        scanned = 0
        while scanned < SCANNED:
            some = await self._database.read(partial(_next_rooms, after, who.sub))
            for room, member in some:
                after = room.name
                if self._sees(who, room, member):
                    found.append((room, member))
                    if len(found) > limit:
                        return found[:limit], found[limit - 1][0].name
            scanned += BATCH
            if len(some) < BATCH:
                return found, None
        return found, after

    async def show(self, who: Principal, name: str) -> tuple[Room, bool, Sequence[Member]]:
        """A room, whether ``who`` is a member, and its first members. Raises NotFound, also for one that is not theirs
        to know of."""
        return await self._look(who, name, "", MEMBERS_GIVEN)

    async def members(self, who: Principal, name: str, after: str, limit: int) -> Sequence[Member]:
        """The next members of a room, by sub. Raises NotFound as :meth:`show` does."""
        return (await self._look(who, name, after, limit))[2]

    async def _look(self, who: Principal, name: str, after: str, limit: int) -> tuple[Room, bool, Sequence[Member]]:

        def look(transaction: store.Transaction) -> tuple[Room | None, bool, Sequence[Member]]:
            return (
                store.find(transaction, name),
                store.is_member(transaction, name, who.sub),
                store.list_members(transaction, name, after, limit),
            )

        room, member, members = await self._database.read(look)
        return self._known(who, room, member, name), member, members

    def _sees(self, who: Principal, room: Room, member: bool) -> bool:
        return who.may_read(room.topic) and (not room.private or member or who.administers(room.topic))

    def _known(self, who: Principal, room: Room | None, member: bool, name: str) -> Room:
        if room is None or not (self._sees(who, room, member) or room.owner == who.sub):
            raise no_room(name)
        return room

    # -- changing -----------------------------------------------------------------------------------------------------

    async def create(self, who: Principal, asked: NewRoom) -> tuple[Room, Sequence[Member]]:
        """A new room of ``who``. Raises Conflict if there is one of that name."""
        name = check_name(asked.name)
        who.require(who.may_publish(room_topic(name)), f"creating {room_topic(name)}")
        now_ms = self._now_ms()
        room = Room(
            name=name,
            title=_checked(asked.title, TITLE_CHARACTERS, "title"),
            description=_checked(asked.description, DESCRIPTION_CHARACTERS, "description"),
            private=asked.private,
            owner=check_sub(who.sub),
            created_ms=now_ms,
            version=now_ms,
        )
        subs = sorted({who.sub, *_checked_members(asked.members)})
        event = self._event(who, room, CREATED, {**_looks(room), "owner": room.owner, "members": subs})

        def change(transaction: store.Transaction) -> Sequence[OutboxRow]:
            if not store.create(transaction, room, subs):
                raise Conflict(f"there is a room {name!r} already", where="name")
            return self._jobs.tell_within(transaction, [event])

        await self._commit(name, await self._database.write(change))
        return room, [Member(sub, now_ms) for sub in subs]

    async def change(self, who: Principal, name: str, asked: RoomChange) -> None:
        """Change what is given; ``members`` are all there are then, beside the owner. Twice is harmless."""
        fields: dict[str, Any] = {}
        if isinstance(asked.title, str):
            fields["title"] = _checked(asked.title, TITLE_CHARACTERS, "title")
        if isinstance(asked.description, str):
            fields["description"] = _checked(asked.description, DESCRIPTION_CHARACTERS, "description")
        if isinstance(asked.private, bool):
            fields["private"] = asked.private
        subs = _checked_members(asked.members) if isinstance(asked.members, list) else None
        now_ms = self._now_ms()

        def change(transaction: store.Transaction) -> Sequence[OutboxRow]:
            room = self._owned(who, store.find(transaction, name, lock=True), name, "changing")
            after = replace(room, **fields)
            events = []
            if after != room:
                room = store.describe(transaction, after, now_ms)
                events.append(self._event(who, room, CHANGED, _looks(room)))
            if subs is not None:
                kept = {room.owner, *subs}
                gone = store.drop_members(transaction, room, store.members_but(transaction, name, kept), now_ms)
                new = store.add_members(transaction, room, kept, now_ms)
                events += self._member_events(who, room, new, gone)
            return self._jobs.tell_within(transaction, events)

        await self._commit(name, await self._database.write(change))

    async def delete(self, who: Principal, name: str, *, keep_history: bool) -> None:
        """Delete a room, and what was said in it. Raises Conflict for the history of a private room that is to be
        kept: everybody with a grant could read it then."""
        room = self._owned(who, await self._database.read(lambda opened: store.find(opened, name)), name, "deleting")
        if room.private and keep_history:
            raise Conflict(
                "the history of a private room cannot be kept without it: make it public first", where="keep"
            )
        if not keep_history:
            await self._journal.erase(room.topic)  # while only members can read it

        event = self._event(who, room, DELETED, {})

        def change(transaction: store.Transaction) -> Sequence[OutboxRow]:
            if store.find(transaction, name, lock=True) is None:
                return []  # somebody else was quicker
            store.remove(transaction, name)
            return self._jobs.tell_within(transaction, [event])

        rows = await self._database.write(change)
        await self._commit(name, rows)
        if rows and not keep_history and await self._recorded(rows):
            await self._journal.erase(room.topic)  # also what was on its way to the journal

    async def _recorded(self, rows: Sequence[OutboxRow]) -> bool:
        """Returns when the journal has had these events; False if that takes too long. The journal itself is not asked:
        somebody who deletes the room in the same moment may have erased them there already."""
        for _ in range(round(RECORDED_S / LOOK_S)):
            if await self._jobs.recorded(rows):
                return True
            await sleep(self._clock, LOOK_S)
        return False

    async def join(self, who: Principal, name: str, sub: str) -> None:
        """Put a member in: oneself, into a public room that one may read, or anybody into one's own."""
        check_sub(sub)
        now_ms = self._now_ms()

        def change(transaction: store.Transaction) -> Sequence[OutboxRow]:
            room = store.find(transaction, name, lock=True)
            if sub == who.sub:
                room = self._known(who, room, store.is_member(transaction, name, sub), name)
                who.require(who.may_read(room.topic), f"joining {room.topic}")
            else:
                room = self._owned(who, room, name, "putting others into")
            new = store.add_members(transaction, room, [sub], now_ms)
            return self._jobs.tell_within(transaction, self._member_events(who, room, new, []))

        await self._commit(name, await self._database.write(change))

    async def leave(self, who: Principal, name: str, sub: str) -> None:
        """Put a member out: oneself, or anybody from one's own room. The owner stays."""
        now_ms = self._now_ms()

        def change(transaction: store.Transaction) -> Sequence[OutboxRow]:
            room = store.find(transaction, name, lock=True)
            if sub == who.sub:
                room = self._known(who, room, store.is_member(transaction, name, sub), name)
            else:
                room = self._owned(who, room, name, "putting others out of")
            if sub == room.owner:
                raise Conflict(f"{sub!r} owns the room and stays a member: delete the room instead", where="sub")
            gone = store.drop_members(transaction, room, [sub], now_ms)
            return self._jobs.tell_within(transaction, self._member_events(who, room, [], gone))

        await self._commit(name, await self._database.write(change))

    def _owned(self, who: Principal, room: Room | None, name: str, what: str) -> Room:
        """The room, if ``who`` owns or administers it. Called in database threads too, so it asks the token alone."""
        if room is None:
            raise no_room(name)
        if room.owner == who.sub or who.administers(room.topic):
            return room
        if room.private:
            raise no_room(name)
        raise Forbidden(f"{what} the room {name} is for {room.owner!r}, who owns it")

    async def _commit(self, name: str, rows: Sequence[OutboxRow]) -> None:
        """What follows from a change that is stored: its events, and that every notifier knows."""
        if rows:
            self._jobs.post(rows)
            await self._directory.changed(name)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _member_events(
        self, who: Principal, room: Room, new: Sequence[str], gone: Sequence[str]
    ) -> list[Event]:  # fmt: skip
        return [
            self._event(who, room, type_, {"members": some[at : at + MEMBERS_GIVEN]})
            for type_, some in ((LEFT, gone), (JOINED, new))
            for at in range(0, len(some), MEMBERS_GIVEN)
        ]

    def _event(self, who: Principal, room: Room, type_: str, data: Any) -> Event:
        now_ms = self._now_ms()
        return Event(
            topic=room.topic,
            type=type_,
            id=self._new_id(now_ms),
            source=who.sub,
            time_ms=now_ms,
            data=json.encode(data),
        )

    def _now_ms(self) -> int:
        return milliseconds(self._clock)


def _next_rooms(after: str, sub: str, transaction: store.Transaction) -> Sequence[tuple[Room, bool]]:
    return store.list_rooms(transaction, after, BATCH, sub)


def no_room(name: str) -> NotFound:
    """What is said of a room that does not exist, and of one that is none of the asker's business."""
    return NotFound(f"there is no room {name[:80]!r}, or it is not yours to see", where="name")


def _looks(room: Room) -> dict[str, Any]:
    return {"title": room.title, "description": room.description, "private": room.private}


def _checked(text: str, most: int, where: str) -> str:
    if len(text) > most or "\0" in text:
        raise InvalidInput(f"a room's {where} has at most {most} characters, none of them U+0000", where=where)
    return text


def _checked_members(subs: Sequence[str]) -> Sequence[str]:
    if len(subs) > MEMBERS_GIVEN:
        raise InvalidInput(f"at most {MEMBERS_GIVEN} members in one request", where="members")
    return [check_sub(sub) for sub in subs]
