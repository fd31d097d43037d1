"""What follows from a batch is published, and what cannot be is told without a flood."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.errors import Unavailable
from msgd.messages.envelope import Message
from msgd.services.recorder.live import Posting
from msgd.services.recorder.posting import QUIET_S, Poster

NAMELESS = Posting("", "x" * 300, Message(body=b"1"))
"""To a queue that there cannot be: a name has 255 bytes at most."""


class PosterTests(TestCase):
    def broker(self) -> EmbeddedBroker:
        folder = Path(self.mktemp())
        folder.mkdir()
        return EmbeddedBroker(folder / "broker.sqlite3", reactor=reactor)

    async def test_never(self) -> None:
        """Messages that no broker can take hold up nothing, and a thousand of them are one warning a minute."""
        broker = self.broker()
        await broker.start()
        clock = Clock()
        poster = Poster(broker, clock)
        with capturedLogs() as logged:
            for _ in range(10):
                await poster.post([NAMELESS] * 100)
            clock.advance(QUIET_S)
            await poster.post([NAMELESS])
        await broker.stop()
        warnings = [event for event in logged if "count" in event]
        self.assertEqual([event["count"] for event in warnings], [1, 1000])

    async def test_not_now(self) -> None:
        """What a broker cannot take now is an error: the batch is to be told again."""
        broker = self.broker()
        await broker.start()
        await broker.stop()
        poster = Poster(broker, Clock())
        with self.assertRaises(Unavailable):
            await poster.post([Posting("", "a", Message(body=b"1"))])
        await poster.show([Posting("", "a", Message(body=b"1"))])
