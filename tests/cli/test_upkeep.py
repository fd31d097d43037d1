"""``msgd dead`` and ``msgd types``."""

from __future__ import annotations

from tests.cli.deployed import CommandCase


class TypesTest(CommandCase):
    """Job types."""

    def test_pause_and_resume(self) -> None:
        """A paused type is shown as such, and its jobs wait until it is resumed."""
        self.addCleanup(self.msgd, "types", "resume", "crawl")
        self.assertEqual(self.msgd("types", "pause", "crawl")[0], "crawl paused\n")
        self.assertIn("paused", self.msgd("types", "list")[0])
        (crawl,) = [one for one in self.lines("types", "list", "--json") if one["name"] == "crawl"]
        self.assertTrue(crawl["paused"])
        self.assertEqual(self.msgd("types", "resume", "crawl")[0], "crawl open\n")

    def test_unknown(self) -> None:
        """A type that nobody performs is named."""
        self.assertIn("nonsense", self.msgd("types", "pause", "nonsense", code=2)[1])


class DeadTest(CommandCase):
    """Dead letters."""

    def test_none(self) -> None:
        """A fresh server has none, and says so; a number that there is not is told."""
        self.assertEqual(self.lines("dead", "list", "--json"), [])
        self.assertIn("no dead letters", "".join(self.msgd("dead", "list")))
        self.assertIn("there is no dead letter 7", self.msgd("dead", "show", "7", code=2)[1])
        self.assertIn("not the number", self.msgd("dead", "drop", "x", code=2)[1])
