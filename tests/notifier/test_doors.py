"""Who is connected."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from msgd.notifier.doors import OpenDoors
from msgd.notifier.interface import Principal


class Door:
    """Something open."""

    def __init__(self, sub: str = "") -> None:
        self.principal = Principal(sub=sub, expires_s=0) if sub else None

    def close(self, code: int, reason: str) -> None:
        """Not called here."""

    def drain(self, reconnect_in_s: float) -> None:
        """Not called here."""


class OpenDoorsTest(SynchronousTestCase):
    def test_by_principal(self) -> None:
        """They are found by whom they speak for, oldest first, until they end; ending twice is harmless."""
        doors = OpenDoors()
        first, second, other = Door("ann"), Door("ann"), Door("bob")
        for door in (first, second, other):
            doors.add(door)
        self.assertEqual(([first, second], [other], []), (doors.of("ann"), doors.of("bob"), doors.of("eve")))
        self.assertEqual((2, 3), (doors.count("ann"), len(doors)))
        doors.remove(first)
        doors.remove(first)
        self.assertEqual([second], doors.of("ann"))
        doors.remove(second)
        doors.remove(other)
        self.assertEqual((0, 0, []), (doors.count("ann"), len(doors), list(doors)))

    def test_principal_comes_later(self) -> None:
        """One without a principal is among all, and nobody's; once it has one it is found by that, counted once."""
        doors = OpenDoors()
        door = Door()
        doors.add(door)
        self.assertEqual(([door], []), (list(doors), doors.of("")))
        door.principal = Principal(sub="ann", expires_s=0)
        doors.add(door)
        self.assertEqual(([door], [door]), (list(doors), doors.of("ann")))
