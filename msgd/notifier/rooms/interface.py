"""What a room is, for whoever stores, keeps or shows it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from msgd.errors import InvalidInput
from msgd.messages.topics import is_word

CREATED: Final = "room.created"
CHANGED: Final = "room.changed"
JOINED: Final = "room.joined"
LEFT: Final = "room.left"
DELETED: Final = "room.deleted"

TYPES: Final = frozenset({CREATED, CHANGED, JOINED, LEFT, DELETED})
"""Events by which a room's topic tells of the room. Nobody else publishes them there: readers can rely on them."""

NAME_BYTES: Final = 100
"""A room's name: leaves room for topics below the room's."""

TITLE_CHARACTERS: Final = 200
"""A line."""

DESCRIPTION_CHARACTERS: Final = 4000
"""A page."""

SUB_CHARACTERS: Final = 200
"""A member's name: what a token's ``sub`` is, and can be a topic word."""

MEMBERS: Final = 10_000
"""Members of one room: every notifier has those of private rooms in memory."""

MEMBERS_GIVEN: Final = 1000
"""Members in one request, and in the event that tells of it."""

ROOMS_OWNED: Final = 1000
"""Rooms of one owner: more are made by a program that went wrong."""


class Room(Struct, frozen=True, kw_only=True):
    """A room. ``version`` grows with each change of it or its members."""

    name: str
    title: str
    description: str
    private: bool
    owner: str
    created_ms: int
    version: int

    @property
    def topic(self) -> str:
        return room_topic(self.name)


class Member(Struct, frozen=True):
    """One member, since when."""

    sub: str
    since_ms: int


class Closed(Struct, frozen=True):
    """A private room, as far as admission to it goes."""

    version: int
    members: frozenset[str]


def room_topic(name: str) -> str:
    """The topic of a room."""
    return f"room.{name}"


def room_of(pattern: str) -> str | None:
    """The room that a topic or pattern belongs to: ``x`` for ``room.x`` and what lies below it; None for all else, also
    for a pattern of several rooms."""
    kind, _, rest = pattern.partition(".")
    name = rest.partition(".")[0]
    return name if kind == "room" and name not in ("", "*", "#") else None


def check_name(name: str) -> str:
    """``name`` if a room can have it, else raises InvalidInput."""
    if not is_word(name) or len(name) > NAME_BYTES:
        raise InvalidInput(
            f"{name[:80]!r} cannot be a room's name: one word of letters, digits, '_' and '-', of at most "
            f"{NAME_BYTES} characters",
            where="name",
        )
    return name


def check_sub(sub: str) -> str:
    """``sub`` if it can be a member's, else raises InvalidInput."""
    if not sub or len(sub) > SUB_CHARACTERS or "\0" in sub:
        raise InvalidInput(f"{sub[:80]!r} cannot be a member: 1 to {SUB_CHARACTERS} characters", where="members")
    return sub
