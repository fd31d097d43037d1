"""Requests and answers about rooms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from msgd.messages.wire import format_time
from msgd.notifier.rooms.interface import Member, Room


class NewRoom(Struct, kw_only=True):
    """A room asked for."""

    name: str
    title: str = ""
    description: str = ""
    private: bool = False
    members: list[str] = []


class RoomChange(Struct, kw_only=True):
    """What a room is to be like; what is left out stays as it is."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    private: bool | UnsetType = UNSET
    members: list[str] | UnsetType = UNSET


def room_view(room: Room) -> dict[str, Any]:
    """A room as it is shown."""
    return {
        "name": room.name,
        "topic": room.topic,
        "title": room.title,
        "description": room.description,
        "private": room.private,
        "owner": room.owner,
        "created": format_time(room.created_ms),
    }


def member_names(members: Sequence[Member]) -> list[str]:
    """Members by their subs alone."""
    return [member.sub for member in members]


def member_view(member: Member) -> dict[str, Any]:
    """A member as it is shown."""
    return {"sub": member.sub, "since": format_time(member.since_ms)}
