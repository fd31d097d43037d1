"""Two notifiers behind nginx, on a RabbitMQ of their own that may be killed, and clients that know only nginx."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any, Final

import pika
from pika.exceptions import AMQPError
from twisted.trial.unittest import TestCase

from msgd.client.blocking import Client
from tests.ports import free_port
from tests.servers import rabbitmq
from tests.servers.nginx import Nginx, front
from tests.stories.deployment import PATIENCE_S, Deployment, another, distributed, until


class Pair:
    """The deployment; everything is ended with the test."""

    def __init__(self, case: TestCase) -> None:
        self.node = rabbitmq.Node()
        case.addCleanup(self.node.close)
        self.node.start()
        self.first: Deployment = distributed(case, node=self.node)
        self.first.start("recorder", "notifier")
        self.second = another(case, self.first, "notifier")
        self.second.start()
        self.nginx: Nginx = front(case, free_port(), [self.first.port, self.second.port])
        self.url = self.nginx.url

    def token(self, sub: str, *can: str) -> str:
        """A token that both notifiers trust."""
        return self.first.token(sub, *can)

    def restart_broker(self) -> None:
        """kill -9 of the node, and start it again."""
        self.node.kill()
        self.node.start()

    def kill_and_restart(self, made: Deployment) -> None:
        """kill -9 of a notifier, and start it again."""
        made.kill("notifier")
        made.start("notifier")


class Poller:
    """A client that can only poll, through nginx; what it has seen is in :attr:`events` and :attr:`gaps`."""

    def __init__(self, case: TestCase, url: str, token: str, *topics: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.gaps: list[dict[str, Any]] = []
        self._client = Client(url, token)
        self._topics = topics
        self._over = False
        self._thread = threading.Thread(target=self._poll, daemon=True)
        # From this moment on: its thread may ask for the first time when the first event is there already. Of a pattern
        # any topic tells that, as a cursor counts for all.
        self._cursor = self._client.history(topics[0].replace("*", "any"), limit=1)["cursor"]
        case.addCleanup(self.end)
        self._thread.start()

    def _poll(self) -> None:
        for message in self._client.events(*self._topics, since=self._cursor):
            (self.events if message["op"] == "event" else self.gaps).append(message)
            if self._over:
                return

    def end(self) -> None:
        """Take no more; the thread ends with its next answer, or with the process."""
        self._over = True

    def until(self, count: int) -> None:
        """Wait until so many events have come."""
        until(lambda: len(self.events) >= count, f"{count} events have been polled", seconds=2 * PATIENCE_S)


class Shop:
    """A web application as docs/events.rst wants it: pika, confirms, and each event again under its id until it is
    confirmed."""

    def __init__(self, url: str) -> None:
        self._url: Final = url
        self._connection: Any = None

    def say(self, topic: str, title: str) -> None:
        """Publish an event of the type ``created``; returns once the broker has it."""
        properties = pika.BasicProperties(
            content_type="application/json", delivery_mode=2, type="created", message_id=uuid.uuid4().hex, app_id="shop"
        )
        body = json.dumps({"title": title}).encode()

        def published() -> bool:
            try:
                if self._connection is None:
                    self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
                    self._channel = self._connection.channel()
                    self._channel.confirm_delivery()
                self._channel.basic_publish("msgd.events", topic, body, properties)
            except (AMQPError, OSError):
                self._connection = None
                return False
            return True

        until(published, f"{title} is confirmed", seconds=2 * PATIENCE_S)

    def close(self) -> None:
        """Leave the broker."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
