"""What follows from a stored batch, and what a dead letter says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.topology import HEAD_KEY, LIVE
from msgd.jobs.interface import Reply
from msgd.messages.envelope import Message
from msgd.messages.events import Recorded
from msgd.messages.live import decode_batch, decode_head
from msgd.messages.topics import bucket
from msgd.services.recorder import live
from msgd.services.recorder.graves import Cause, cause
from tests.services.recorder.test_intake import Letter
from tests.services.recorder.world import event


class LiveTests(SynchronousTestCase):
    def test_large_events_are_split(self) -> None:
        """A bucket with more than a message holds has several, in order; the head counts events, not messages."""
        big = b'"' + b"x" * (600 * 1024) + b'"'
        recorded = [Recorded(event("room.a", str(number), data=big), number, number) for number in (1, 2, 3)]
        *batches, head = live.stored("e", recorded, first=1, last=3)
        self.assertEqual([posting.key for posting in batches], [str(bucket("room.a"))] * 3)
        self.assertEqual(
            [one.pos for posting in batches for one in decode_batch(posting.message.body).events], [1, 2, 3]
        )
        self.assertEqual((head.exchange, head.key), (LIVE, HEAD_KEY))
        self.assertEqual(decode_head(head.message.body).counts, {bucket("room.a"): 3})
        self.assertFalse(any(posting.message.persistent for posting in (*batches, head)))

    def test_replies(self) -> None:
        """Only the events of jobs that want replies are sent, without what is msgd's own affair."""
        recorded = [
            Recorded(event("job.x", "1", outbox=7), 4, 10),
            Recorded(event("job.y", "2"), 1, 11),
            Recorded(event("room.x", "3"), 1, 12),
        ]
        (posting,) = live.replies("e", recorded, [Reply("x", "queue", "42")])
        self.assertEqual((posting.exchange, posting.key, posting.message.correlation_id), ("", "queue", "42"))
        headers = posting.message.headers
        self.assertEqual((headers["msgd-seq"], headers["msgd-cursor"]), (4, "e-10"))
        self.assertNotIn("msgd-outbox", headers)

    def test_nothing(self) -> None:
        """No events, no messages but the head; nobody waits, no replies."""
        (head,) = live.stored("e", [], first=5, last=9)
        self.assertEqual(decode_head(head.message.body).last, 9)
        self.assertEqual(live.transient("e", []), [])
        self.assertEqual(live.replies("e", [Recorded(event("job.x", "1"), 1, 1)], []), [])


class CauseTests(SynchronousTestCase):
    def of(self, headers: Mapping[str, Any]) -> Cause:
        letter = Letter("msgd.dead", 0, Message(body=b"", headers=headers), exchange="msgd.jobs", key="crawl.more")
        return cause(letter)

    def test_ours(self) -> None:
        """What msgd has made dead says why in headers of its own, whatever RabbitMQ adds."""
        ours = {"msgd-reason": "r", "msgd-queue": "q", "msgd-exchange": b"e", "msgd-key": "k", "x-death": [{}]}
        self.assertEqual(self.of(ours), Cause("r", "q", "e", "k"))

    def test_of_rabbitmq(self) -> None:
        """What RabbitMQ gave up has its latest death first."""
        latest = {"reason": "delivery_limit", "queue": "q", "exchange": "e", "routing-keys": ["k", "other"]}
        found = self.of({"x-death": [latest, {"reason": "old"}]})
        self.assertEqual(found, Cause("given up by the broker: delivery_limit", "q", "e", "k"))

    def test_of_no_queue(self) -> None:
        """What no queue took came through the alternate exchange, and has no queue."""
        found = self.of({})
        self.assertEqual((found.queue, found.exchange, found.key), ("", "msgd.jobs", "crawl.more"))

    def test_garbage(self) -> None:
        """Headers of a foreign client may hold anything."""
        odds: list[Any] = [1, "x", [], [1], [{"routing-keys": []}]]
        for odd in odds:
            self.assertEqual(self.of({"x-death": odd}).key, "crawl.more")
