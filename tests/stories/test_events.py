"""Application events by a foreign client: the examples of docs/events.rst, as they stand there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from tests.stories.deployment import PATIENCE_S, ROOT, Deployment, distributed, logs_on_failure, until

PAGE: Final = (ROOT / "docs" / "events.rst").read_text(encoding="utf-8")
TOPIC: Final = "app.invoice.created"


def example(title: str) -> str:
    """The literal block of the section with this title."""
    section = PAGE.split(f"\n{title}\n====", 1)[1]
    found = re.search(r"::\n\n((?:(?: {4}.*)?\n)+)", section)
    assert found is not None, title
    return textwrap.dedent(found[1]).strip("\n") + "\n"


class PagesTest(SynchronousTestCase):
    """The page itself."""

    def test_languages(self) -> None:
        """The examples in other languages say the same as the one that is run: exchange, topic, type, id, source."""
        ast.parse(example("Python, with pika"))
        for title in ("Python, with pika", "Ruby, with Bunny", "PHP, with php-amqplib"):
            for word in ("msgd.events", TOPIC, "created", "message_id", "app_id", "application/json", "confirm"):
                self.assertIn(word, example(title), title)


class EventsTest(SynchronousTestCase):
    """Published by a process that knows RabbitMQ and nothing of msgd."""

    def setUp(self) -> None:
        self.made: Deployment = distributed(self)
        self.made.start()
        self.url = self.made.config.read_text().split('[broker]\nurl = "')[1].split('"')[0]
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        (self.folder / "shop.py").write_text(example("Python, with pika"), encoding="utf-8")

    def shop(self, *code: str) -> str:
        """What the example prints, run as a program or imported by ``code``."""
        done = subprocess.run(
            [sys.executable, *(code or ("shop.py",))], cwd=self.folder, env={**os.environ, "AMQP_URL": self.url},
            capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode().strip()

    def kept(self) -> list[Any]:
        _, page = self.made.call("GET", f"/api/topics/{TOPIC}/events?since=0")
        events: list[Any] = page["events"]
        return events

    def test_python(self) -> None:
        """The event is kept under its id, with its source; published again under that id it is there once."""
        with logs_on_failure(self.made):
            first = self.shop()
            until(lambda: [event["id"] for event in self.kept()] == [first], "the event is in the journal")
            again = (
                "import os, shop; url = os.environ['AMQP_URL']; "
                f"shop.publish(url, {TOPIC!r}, 'created', {{}}, {first!r}); "
                f"print(shop.publish(url, {TOPIC!r}, 'created', {{'title': 'Invoice 18'}}))"
            )
            second = self.shop("-c", again)
            until(lambda: len(self.kept()) >= 2, "the second event is in the journal")
            events = self.kept()
        self.assertEqual([(event["seq"], event["id"]) for event in events], [(1, first), (2, second)])
        self.assertEqual((events[0]["source"], events[0]["type"]), ("shop", "created"))
        self.assertEqual(events[0]["data"]["title"], "Invoice 17")
