"""The blocking client against msgd in a process of its own, also one that dies and comes again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from threading import Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd import errors
from msgd.client.blocking import Client
from tests.ports import free_port
from tests.stories.deployment import PATIENCE_S, Deployment, embedded, logs_on_failure
from tests.stories.site import serve


class BlockingCase(SynchronousTestCase):
    """A test with a server."""

    def setUp(self) -> None:
        self.made: Deployment = embedded(self)
        self.made.start()

    def client(self, *can: str, **options: Any) -> Client:
        client = Client(self.made.url, self.made.token("ann", *(can or ("admin:#",))), **options)
        self.addCleanup(client.close)
        return client


class JobsTest(BlockingCase):
    """Jobs."""

    def test_crawl(self) -> None:
        """A job is submitted, waited for, and its results are all there; its key gives it again."""
        site = serve(self, 12)
        params = {"url": site.url, "match": [{"regex": "EUR [0-9.]+"}], "delay": 0}
        with logs_on_failure(self.made), self.client() as msgd:
            job = msgd.submit("crawl", params, key="mine")
            ended = msgd.wait(job["id"], timeout_s=PATIENCE_S)
            results = list(msgd.results(job["id"]))
            again = msgd.submit("crawl", params, key="mine")
            first = next(msgd.results(job["id"]))
            listed = msgd.jobs(limit=5)
        self.assertEqual((ended["state"], again["id"]), ("done", job["id"]))
        self.assertEqual(len(results), ended["result"]["results"])
        self.assertEqual(first, results[0])
        self.assertEqual([one["id"] for one in listed], [job["id"]])

    def test_token_of_a_file(self) -> None:
        """A token is good with the line break of the file that it was read from, and as a function's result."""
        written = self.made.token("ann", "admin:#") + "\n"
        for token in (written, lambda: written):
            with Client(self.made.url, token) as msgd:
                self.assertEqual(msgd.jobs(), [])

    def test_cancel(self) -> None:
        """A job that waits is cancelled; to wait for one longer than one has time is an error that says so."""
        msgd = self.client()
        job = msgd.submit("crawl", {"url": "http://127.0.0.1:1/"}, delay_s=900)["id"]
        with self.assertRaises(errors.Unavailable) as raised:
            msgd.wait(job, timeout_s=0.1)
        self.assertIn("still queued", str(raised.exception))
        msgd.cancel(job)
        self.assertEqual(msgd.wait(job, timeout_s=PATIENCE_S)["state"], "cancelled")

    def test_refused(self) -> None:
        """What the server refuses is the error that it stands for, at once."""
        msgd = self.client("subscribe:room.*")
        for kind, call in (
            (errors.Forbidden, lambda: msgd.submit("crawl", {"url": "http://a.example/"})),
            (errors.NotFound, lambda: msgd.job("nonsense")),
            (errors.InvalidCursor, lambda: next(msgd.events("room.a", since="x"))),
            (errors.InvalidTopic, lambda: next(msgd.events("no topic"))),
            (errors.Forbidden, lambda: next(msgd.events("app.#"))),
        ):
            self.assertRaises(kind, call)


class EventsTest(BlockingCase):
    """Events."""

    def test_over_a_restart(self) -> None:
        """Every event comes once and in order, and every publication arrives once, although the server is killed."""
        count = 60
        publisher, reader = self.client(patience_s=PATIENCE_S), self.client()

        def publish() -> None:
            try:
                for number in range(count):
                    publisher.publish("room.a", "said", number, id_=str(number))
            except errors.MsgdError as error:
                refused.append(error)
                self.made.kill("msgd")  # else the reader would wait for ever

        refused: list[errors.MsgdError] = []
        publishing = Thread(target=publish, daemon=True)
        seen: list[tuple[int, int]] = []
        with logs_on_failure(self.made):
            publishing.start()
            events: Iterator[Any] = reader.events("room.*", since="0", patience_s=PATIENCE_S)
            for event in islice(events, count):
                seen.append((event["seq"], event["data"]))
                if event["seq"] in (10, 30):
                    self.made.kill("msgd")
                    self.made.start()
            publishing.join(PATIENCE_S)
        self.assertEqual(refused, [])
        self.assertEqual(seen, [(number + 1, number) for number in range(count)])

    def test_cursor_and_gap(self) -> None:
        """Reading goes on after a cursor that was kept; a history that was erased meanwhile is a gap."""
        msgd = self.client()
        self.assertEqual(len(msgd.publish_all([{"topic": "room.b", "type": "said", "data": n} for n in range(3)])), 3)
        first, *_ = islice(msgd.events("room.b", since="0"), 3)
        self.assertEqual([one["data"] for one in islice(msgd.events("room.b", since=first["cursor"]), 2)], [1, 2])
        self.made.call("DELETE", "/api/topics/room.b")
        gap = next(msgd.events("room.b", since=first["cursor"]))
        self.assertEqual((gap["op"], gap["reason"], gap["lost"]), ("gap", "erased", 2))


class AwayTest(SynchronousTestCase):
    """No server."""

    def test_patience(self) -> None:
        """It is tried again with growing pauses, until patience ends."""
        slept: list[float] = []
        msgd = Client(
            f"http://127.0.0.1:{free_port()}", patience_s=10, jitter=lambda: 1.0,
            sleep=slept.append, now_s=lambda: sum(slept),
        )  # fmt: skip
        self.assertRaises(errors.Unavailable, msgd.publish, "room.a", "said")
        self.assertEqual(slept, [0.2, 0.4, 0.8, 1.6, 3.2])

    def test_no_address(self) -> None:
        """What no server has is refused."""
        for url in ("", "msgd", "ftp://a/", "http://"):
            self.assertRaises(errors.InvalidInput, Client, url)
