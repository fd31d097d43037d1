"""``msgd rooms``."""

from __future__ import annotations

from tests.cli.deployed import CommandCase


class RoomsTest(CommandCase):
    """Rooms from the command line."""

    def test_a_room(self) -> None:
        """A room is made, listed, joined, left and deleted."""
        self.assertIn("no rooms", "".join(self.msgd("rooms", "list")))
        made = self.lines(
            "rooms", "create", "kitchen", "--title", "The [b]kitchen", "--private", "--member", "b c", "--json"
        )
        self.assertEqual((made[0]["topic"], made[0]["private"]), ("room.kitchen", True))
        self.assertIn("there is a room", self.msgd("rooms", "create", "kitchen", code=2)[1])
        self.assertEqual(self.msgd("rooms", "join", "kitchen", "dan")[0], "dan in room.kitchen\n")
        self.assertEqual(self.msgd("rooms", "leave", "kitchen", "b c")[0], "b c out of room.kitchen\n")
        self.assertEqual(self.msgd("rooms", "join", "kitchen")[0], "you in room.kitchen\n")
        self.assertIn("stays a member", self.msgd("rooms", "leave", "kitchen", code=2)[1])
        (room,) = self.lines("rooms", "show", "kitchen", "--json")
        self.assertEqual(sorted(room["members"]), sorted({"dan", room["owner"]}))
        self.assertIn("The [b]kitchen", self.msgd("rooms", "show", "kitchen")[0])
        self.msgd("rooms", "create", "laundry")
        listed = self.msgd("rooms", "list", "--limit", "1")
        self.assertIn("private", listed[0])
        self.assertIn("--after kitchen", listed[1])
        self.assertEqual(
            [one["name"] for one in self.lines("rooms", "list", "--after", "kitchen", "--json")], ["laundry"]
        )
        self.assertEqual(self.msgd("rooms", "delete", "kitchen")[0], "room.kitchen deleted\n")
        self.assertEqual(self.msgd("rooms", "delete", "laundry", "--keep-history")[0], "room.laundry deleted\n")
        self.assertIn("there is no room", self.msgd("rooms", "show", "kitchen", code=2)[1])
