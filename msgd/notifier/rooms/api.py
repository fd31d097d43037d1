"""``/api/rooms``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgd.errors import InvalidInput
from msgd.notifier.interface import Answer, Call, Principal, Route, answer
from msgd.notifier.limits import PAGE_DEFAULT, PAGE_MOST
from msgd.notifier.presence.service import Presence
from msgd.notifier.rooms.commands import Rooms
from msgd.notifier.rooms.forms import NewRoom, RoomChange, member_names, member_view, room_view

HISTORY: Final = "history"


class RoomsApi:
    """List, create, show, change and delete rooms; members."""

    def __init__(self, rooms: Rooms, presence: Presence) -> None:
        self._rooms = rooms
        self._presence = presence

    def routes(self) -> Sequence[Route]:
        room, member = "/api/rooms/{name}", "/api/rooms/{name}/members/{sub}"
        return (
            Route(method="GET", path="/api/rooms", endpoint=self.list),
            Route(method="POST", path="/api/rooms", endpoint=self.create),
            Route(method="GET", path=room, endpoint=self.show),
            Route(method="PUT", path=room, endpoint=self.change),
            Route(method="DELETE", path=room, endpoint=self.delete),
            Route(method="GET", path=f"{room}/members", endpoint=self.members),
            Route(method="PUT", path=member, endpoint=self.join),
            Route(method="DELETE", path=member, endpoint=self.leave),
        )

    async def list(self, call: Call) -> Answer:
        """A page of the rooms that the caller may read, by name."""
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        found, next_ = await self._rooms.page(call.principal, call.text("after"), limit)
        views = [
            {**room_view(room), "member": member, "present": self._presence.count(room.topic)} for room, member in found
        ]
        return answer({"rooms": views, "next": next_})

    async def create(self, call: Call) -> Answer:
        """Make a room."""
        room, members = await self._rooms.create(call.principal, call.json(NewRoom))
        view = {**room_view(room), "members": member_names(members)}
        return answer(view, status=201, headers={"location": f"/api/rooms/{room.name}"})

    async def show(self, call: Call) -> Answer:
        """One room, with its first members."""
        return answer(await self._view(call.principal, call.words["name"]))

    async def change(self, call: Call) -> Answer:
        """Change a room; the answer shows it."""
        name = call.words["name"]
        await self._rooms.change(call.principal, name, call.json(RoomChange))
        return answer(await self._view(call.principal, name))

    async def delete(self, call: Call) -> Answer:
        """Delete a room, and its history."""
        keep = call.text("keep")
        if keep not in ("", HISTORY):
            raise InvalidInput(f"keep={keep[:40]!r} must be {HISTORY}", where="keep")
        await self._rooms.delete(call.principal, call.words["name"], keep_history=keep == HISTORY)
        return Answer(status=204, content_type="")

    async def members(self, call: Call) -> Answer:
        """A page of a room's members, by sub."""
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        found = await self._rooms.members(call.principal, call.words["name"], call.text("after"), limit + 1)
        next_ = found[limit - 1].sub if len(found) > limit else None
        return answer({"members": [member_view(member) for member in found[:limit]], "next": next_})

    async def join(self, call: Call) -> Answer:
        """Put a member in."""
        await self._rooms.join(call.principal, call.words["name"], call.words["sub"])
        return Answer(status=204, content_type="")

    async def leave(self, call: Call) -> Answer:
        """Put a member out."""
        await self._rooms.leave(call.principal, call.words["name"], call.words["sub"])
        return Answer(status=204, content_type="")

    async def _view(self, who: Principal, name: str) -> dict[str, Any]:
        room, member, members = await self._rooms.show(who, name)
        return {
            **room_view(room),
            "member": member,
            "present": self._presence.count(room.topic),
            "members": member_names(members),
        }
