"""Notification rules from end to end: an event becomes a webhook, a mail and a message, once each, kills or not."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pika
from twisted.trial.unittest import SynchronousTestCase

from tests.stories.deployment import Deployment, another, distributed, embedded, logs_on_failure, until

EVENTS: Final = 12


class Hooks:
    """A receiver of webhooks on loopback."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.came: list[tuple[str, dict[str, Any]]] = []  # webhook-id, data
        came = self.came

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                came.append((self.headers["webhook-id"], body["data"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's signature
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._server.server_close)
        case.addCleanup(self._server.shutdown)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def titles(self) -> list[str]:
        return sorted({data["subject"] for _, data in self.came})


class RulesStory(SynchronousTestCase):
    """Takes long for the daemons that start, and start again."""

    def make(self, made: Deployment, url: str) -> None:
        """Three rules for the same events."""
        usual = {"topics": ["app.invoice.*"], "subject": "{{ event.data.title }}"}
        for more in (
            {"name": "hook", "action": "webhook", "to": [url]},
            {"name": "mail", "action": "mail", "to": ["ann@example.com"]},
            {"name": "message", "action": "message", "to": ["ann@chat.example"]},
        ):
            status, answer = made.call("POST", "/api/rules", usual | more)
            self.assertEqual(status, 201, answer)

    def followed(self, made: Deployment, url: str) -> None:
        """Wait until a messenger follows: a new follower begins at the end of the journal, wherever that is then."""
        probe = {"name": "probe", "topics": ["app.probe"], "action": "webhook", "to": [url], "hourly": 3600}
        _, rule = made.call("POST", "/api/rules", probe)

        def look() -> bool:
            made.call("POST", "/api/events", {"topic": "app.probe", "type": "probe", "data": {}})
            return bool(made.call("GET", f"/api/rules/{rule['id']}")[1]["fired"])

        until(look, "rules are followed")
        made.call("DELETE", f"/api/rules/{rule['id']}")

    def jobs(self, made: Deployment, type_: str) -> list[dict[str, Any]]:
        """The jobs of one type that came of invoices."""
        found = made.call("GET", f"/api/jobs?type={type_}&limit=1000")[1]["jobs"]
        return [job for job in found if "app.probe" not in json.dumps(job["params"])]

    def check(self, made: Deployment, hooks: Hooks, titles: list[str]) -> None:
        """Each event is one job of each rule; hooks and mails have arrived."""
        until(lambda: set(hooks.titles()) >= set(titles), "all hooks have arrived")
        until(lambda: len(self.mails(made)) >= EVENTS, "all mails have arrived")
        for type_ in ("webhook", "mail", "message"):
            found = self.jobs(made, type_)
            self.assertEqual(len(found), EVENTS, type_)
            self.assertTrue(all(job["id"].startswith("rule-") for job in found))
        ids = {id_ for id_, data in hooks.came if data["subject"] in titles}
        self.assertEqual(len(ids), EVENTS)
        self.assertEqual(len(self.mails(made)), EVENTS)

    def mails(self, made: Deployment) -> list[Path]:
        return list((made.folder / "var" / "outbox" / "new").glob("*"))

    def test_embedded(self) -> None:
        """In one process: an event over HTTP becomes its webhook, once, its mail and its message."""
        hooks, made = Hooks(self), embedded(self)
        made.start()
        with logs_on_failure(made):
            self.make(made, hooks.url)
            self.followed(made, hooks.url)
            titles = [f"Invoice {number:02}" for number in range(EVENTS)]
            for title in titles:
                body = {"topic": "app.invoice.paid", "type": "paid", "data": {"title": title}}
                self.assertEqual(made.call("POST", "/api/events", body)[0], 202)
            self.check(made, hooks, titles)
            self.assertEqual(len([1 for _, data in hooks.came if data["subject"] in titles]), EVENTS)

    def test_killed(self) -> None:
        """On RabbitMQ and PostgreSQL, two messengers killed with -9 in turn while an AMQP client publishes: nothing is
        missed, nothing ordered twice."""
        hooks, made = Hooks(self), distributed(self)
        made.start("recorder", "notifier")
        made.launch("messenger", "mailer")
        second = another(self, made, "messenger")
        second.launch()
        with logs_on_failure(made, second):
            self.make(made, hooks.url)
            self.followed(made, hooks.url)
            connection = pika.BlockingConnection(pika.URLParameters(made.broker))
            self.addCleanup(connection.close)
            channel = connection.channel()
            channel.confirm_delivery()
            titles = [f"Invoice {number:02}" for number in range(EVENTS)]
            for number, title in enumerate(titles):
                told = pika.BasicProperties(type="paid", message_id=title.replace(" ", "-"), delivery_mode=2)
                channel.basic_publish("msgd.events", "app.invoice.paid", json.dumps({"title": title}).encode(), told)
                if number % 4 == 1:
                    victim = (made, second)[number // 4 % 2]
                    victim.kill("messenger")
                    victim.launch("messenger")
            self.check(made, hooks, titles)
