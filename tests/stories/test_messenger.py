"""Instant messages and webhooks, through daemons that are killed: an XMPP client reads each, a receiver verifies each.

The messenger is killed (-9) while a request waits for its answer and messages are under way. None is lost; what is sent
again has the same id (at least once).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from standardwebhooks import Webhook
from twisted.trial.unittest import SynchronousTestCase

from tests.servers import prosody, xmpp_peer
from tests.stories.deployment import Deployment, another, distributed, embedded, logs_on_failure, until
from tests.stories.killing import ARMED, VARIABLE
from tests.stories.killing_messenger import POINT

LAUNCHER: Final = ("-m", "tests.stories.killing_messenger")

NUMBER: Final = 15
"""Messages, and webhooks: more than there are slots for messages, beside those that are held."""


class Receiver:
    """Takes webhooks, in threads of its own; answers them once it is ``open``."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.open = threading.Event()
        receiver = self

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                receiver.open.wait(30)
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        case.addCleanup(server.server_close)
        case.addCleanup(server.shutdown)
        case.addCleanup(self.open.set)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/hook"


class MessengerStory(SynchronousTestCase):
    """The messenger is killed while it sends."""

    timeout = 300

    def setUp(self) -> None:
        self.server = prosody.server(self, "msgd", "ann")
        self.peer = xmpp_peer.peer(self, self.server, "ann")
        self.receiver = Receiver(self)
        self.settings = (
            f'[xmpp]\njid = "msgd@localhost"\npassword_file = "{self.server.password_file}"\n'
            f'server = "{self.server.server}"\nca_file = "{self.server.ca_file}"\n'
            'people = ["ann@localhost = ann"]\n'
        )

    def check(self, made: Deployment, messenger: Deployment, victim: str) -> None:
        made.token()
        status, endpoint = made.call("POST", "/api/webhooks", {"url": self.receiver.url})
        self.assertEqual(status, 201, endpoint)
        hooks = [
            made.submit("webhook", endpoint=endpoint["id"], event="invoice.created", data={"number": number})
            for number in range(NUMBER)
        ]
        messages = [made.submit("message", to="ann@localhost", body=f"number {number}") for number in range(NUMBER)]
        until(lambda: len(self.receiver.requests) >= 4, "webhooks wait for their answers")
        messenger.kill(victim)
        self.receiver.open.set()
        messenger.start(victim)
        for job in (*hooks, *messages):
            self.assertEqual(made.ended(job)["state"], "done")
        self.check_webhooks(hooks, endpoint["secret"])
        for number, job in enumerate(messages):
            words = f"number {number}"
            self.peer.until(lambda one, words=words: one.get("heard") == words)  # type: ignore[misc]  # mypy infers no default
            self.assertEqual({one["id"] for one in self.peer.heard(words)}, {job}, words)
        self.check_command(made)

    def check_webhooks(self, hooks: list[str], secret: str) -> None:
        """Each came, as often as may be, under the id of its job; every request verifies."""
        bodies: dict[str, set[Any]] = {}
        for headers, body in self.receiver.requests:
            said = Webhook(secret).verify(body, headers)
            bodies.setdefault(headers["webhook-id"], set()).add(said["data"]["number"])
        self.assertEqual(bodies, {job: {number} for number, job in enumerate(hooks)})
        times = Counter(headers["webhook-id"] for headers, _ in self.receiver.requests)
        self.assertGreater(sum(times.values()), NUMBER, "those that were held came again")

    def check_command(self, made: Deployment) -> None:
        """Ann asks for her jobs."""
        job = made.submit("message", to="ann@localhost", body="One of yours")
        made.ended(job)
        self.peer.order(say="jobs", to="msgd@localhost")
        self.peer.until(lambda one: f"{job} message: done" in one.get("heard", ""))

    def check_sent(self, made: Deployment, messenger: Deployment, victim: str) -> None:
        """The messenger dies between the sending of a message and the server's acknowledgement: it is sent again."""
        messenger.stop(victim)
        messenger.start(victim, environment={VARIABLE: POINT})
        armed = messenger.folder / ARMED
        armed.touch()
        params = {"to": "ann@localhost", "body": "Between the two"}
        asked = {"type": "message", "key": "between", "params": params}
        with contextlib.suppress(OSError):  # the door may die with it: whoever asked asks again, under the same key
            made.call("POST", "/api/jobs", asked)
        self.assertEqual(messenger.wait(victim), -signal.SIGKILL)
        armed.unlink()
        messenger.start(victim)
        job = made.call("POST", "/api/jobs", asked)[1]["id"]
        self.assertEqual(made.ended(job)["state"], "done")
        self.peer.until(lambda one: one.get("heard") == "Between the two")
        self.assertEqual({one["id"] for one in self.peer.heard("Between the two")}, {job})

    def test_embedded(self) -> None:
        """The one process on the embedded defaults dies and comes back."""
        made = embedded(self, more=self.settings, launcher=LAUNCHER)
        with logs_on_failure(made):
            made.start()
            self.check(made, made, "msgd")
            self.check_sent(made, made, "msgd")

    def test_distributed(self) -> None:
        """The messenger, on RabbitMQ and PostgreSQL, dies and comes back."""
        made = distributed(self)
        messenger = another(self, made, "messenger", more=self.settings, launcher=LAUNCHER)
        with logs_on_failure(made, messenger):
            made.start("recorder", "notifier")
            messenger.start()
            self.check(made, messenger, "messenger")
            self.check_sent(made, messenger, "messenger")
