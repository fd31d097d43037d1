"""Notification rules, put together: what the messenger runs, and the routes that the notifier serves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgd.app.adapters import Adapters
from msgd.database import Transaction
from msgd.notifier.interface import Mount
from msgd.notifier.rooms.interface import room_of
from msgd.notifier.rooms.store import closed_rooms
from msgd.services.messenger.rules.api import RulesApi
from msgd.services.messenger.rules.following import RulesFollower
from msgd.work import JobType
from msgd.work.parts import Part


def readers(transaction: Transaction, topics: Collection[str]) -> Mapping[str, Collection[str]]:
    """Of these topics, those of private rooms, each with the room's members."""
    rooms = {topic: room for topic in topics if (room := room_of(topic)) is not None}
    closed = closed_rooms(transaction, set(rooms.values())) if rooms else {}
    return {topic: closed[room].members for topic, room in rooms.items() if room in closed}


def rules_follower(adapters: Adapters) -> Part:
    """What acts on rules."""
    return RulesFollower(
        database=adapters.database,
        journal=adapters.journal,
        jobs=adapters.jobs,
        broker=adapters.broker,
        readers=readers,
        reactor=adapters.reactor,
    )


def rules_routes(adapters: Adapters, types: Mapping[str, JobType[Any]]) -> Mount:
    """``/api/rules``; ``types``: the job types of which the params are known."""
    return lambda _: RulesApi(
        database=adapters.database,
        journal=adapters.journal,
        types=types,
        readers=readers,
        reactor=adapters.reactor,
        now_ms=adapters.now_ms,
    ).routes()
