"""PostgreSQL is killed under a recorder and a notifier, and comes back: who is connected stays so, and misses nothing.

It takes as long as PostgreSQL does to recover, and its clients to try again.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, IncompleteRead
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.servers import rabbitmq
from tests.servers.postgres import Cluster
from tests.stories.deployment import Deployment, logs_on_failure, until
from tests.stories.pair import Shop

TOPIC: Final = "app.story"
PATH: Final = f"/api/topics/{TOPIC}/events"
EACH: Final = 5
"""Events before, during and after."""

PATIENCE_S: Final = 120.0


class Heard:
    """One connection, of a kind, and what came over it until it ended."""

    def __init__(self, messages: Iterator[dict[str, Any]]) -> None:
        self.messages: list[dict[str, Any]] = []
        self.ended = False
        self._coming = messages
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()
        until(lambda: self.of("subscribed"), "it is subscribed")

    def _hear(self) -> None:
        for message in self._coming:
            self.messages.append(message)
        self.ended = True

    def of(self, op: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["op"] == op]

    def until(self, said: Sequence[str]) -> None:
        """Wait until so many have come."""
        until(lambda: len(self.titles) >= len(said), f"{len(said)} have come", seconds=PATIENCE_S)

    @property
    def titles(self) -> list[str]:
        return [event["data"]["title"] for event in self.of("event")]


def by_socket(case: SynchronousTestCase, made: Deployment, since: str | None) -> Iterator[dict[str, Any]]:
    client = connect(
        made.url.replace("http", "ws") + "/ws", subprotocols=["msgd.v1"],  # type: ignore[list-item]  # it wants a NewType of str
        additional_headers={"Authorization": f"Bearer {made.token()}"}, proxy=None, open_timeout=60,
    )  # fmt: skip
    case.addCleanup(client.close)
    client.send(json.dumps({"op": "subscribe", "topic": TOPIC} | ({"since": since} if since else {})))
    with contextlib.suppress(ConnectionClosed):
        for message in client:
            yield json.loads(message)


def by_stream(case: SynchronousTestCase, made: Deployment, since: str | None) -> Iterator[dict[str, Any]]:
    client = HTTPConnection("127.0.0.1", made.port)
    headers = {"Authorization": f"Bearer {made.token()}", "Accept": "text/event-stream"}
    client.request("GET", PATH + (f"?since={since}" if since else ""), headers=headers)
    wire = client.sock
    answer = client.getresponse()

    def end() -> None:
        with contextlib.suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
        client.close()

    case.addCleanup(end)
    # AttributeError: this module's way to say that its connection was closed under it.
    with contextlib.suppress(OSError, IncompleteRead, ValueError, AttributeError):
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


class DatabaseDiesTest(SynchronousTestCase):
    """On RabbitMQ, and a PostgreSQL of its own."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.addCleanup(self.cluster.close)
        self.cluster.start()
        broker = rabbitmq.node().url(rabbitmq.fresh_vhost(self))
        database = self.cluster.url(self.cluster.create_database())
        self.made = Deployment(("recorder", "notifier"), broker=broker, database=database)
        self.addCleanup(self.made.close)
        self.made.start()
        self.token = self.made.token()
        self.shop = Shop(broker)
        self.addCleanup(self.shop.close)
        self.said: list[str] = []

    def say(self) -> None:
        for _ in range(EACH):
            self.said.append(f"number {len(self.said)}")
            self.shop.say(TOPIC, self.said[-1])

    def test_killed_and_started_again(self) -> None:
        """Who is connected is shown each event once, in order, without a gap; who asks meanwhile is told to come again,
        and everything works afterwards."""
        with logs_on_failure(self.made):
            clients = [Heard(door(self, self.made, None)) for door in (by_socket, by_stream)]
            self.say()
            for client in clients:
                client.until(self.said)
            self.cluster.kill()
            self.say()
            status, problem = self.made.call("GET", PATH, token=self.token)
            self.assertEqual((status, problem["code"]), (503, "database-unavailable"))
            self.assertEqual(self.made.call("GET", "/healthz")[0], 200)
            self.assertEqual(self.made.call("GET", "/readyz")[0], 503)
            for client in clients:
                self.assertEqual(client.titles, self.said[:EACH])
            late = [Heard(door(self, self.made, "0")) for door in (by_socket, by_stream)]
            self.cluster.start()
            self.say()
            for client in (*clients, *late):
                client.until(self.said)
                self.assertEqual(client.titles, self.said)
                self.assertEqual((client.of("gap"), client.of("error"), client.ended), ([], [], False))
            until(lambda: self.made.call("GET", "/readyz")[0] == 200, "the notifier is ready again")
            page = self.made.call("GET", f"{PATH}?since=0", token=self.token)[1]
            self.assertEqual([one["seq"] for one in page["events"]], list(range(1, len(self.said) + 1)))
            self.assertNotIn("Traceback", self.made.log("notifier"))
