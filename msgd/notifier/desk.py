"""What every session, stream and poll works with, in one place."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from msgd.notifier.access import Access
from msgd.notifier.allowances import Allowances
from msgd.notifier.attendance import Attendance
from msgd.notifier.auth.entry import Entry
from msgd.notifier.commands import Commands
from msgd.notifier.doors import OpenDoors
from msgd.notifier.feed import Feed
from msgd.notifier.keystrokes import Typing
from msgd.notifier.presence.service import Presence


class Desk(Struct, frozen=True, kw_only=True):
    """The parts of the notifier that whoever serves a client may need."""

    commands: Commands
    access: Access
    feed: Feed
    entry: Entry
    allowances: Allowances
    doors: OpenDoors
    attendance: Attendance
    presence: Presence
    typing: Typing
    clock: Any
