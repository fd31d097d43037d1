"""Settings reach what they are for, through real daemons."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.stories.deployment import Deployment, distributed, embedded, logs_on_failure, until
from tests.stories.site import Turnstile, started
from tests.work.test_third_party import LAUNCHER, example

FRIEND = "https://app.example.com"
STRANGER = "https://evil.example.com"


class AskedSite:
    """A site of one page; knows what it was asked, and by whom."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.paths: list[str] = []
        self.agents: set[str] = set()
        site = self

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                site.agents.add(self.headers.get("User-Agent", ""))
                robots = self.path == "/robots.txt"
                body = b"User-agent: *\nDisallow: /\n" if robots else b"<!doctype html><title>Page</title>"
                self.send_response(200)
                self.send_header("Content-Type", "text/plain" if robots else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        case.addCleanup(server.server_close)
        case.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"


class NotifierTest(SynchronousTestCase):
    """``[notifier]``."""

    def test_origins_and_cors(self) -> None:
        """Pages of the origins given may open a WebSocket, scripts of the CORS ones may read; others may not."""
        made = embedded(self)
        made.start(environment={"MSGD_NOTIFIER_ORIGINS": FRIEND, "MSGD_NOTIFIER_CORS": FRIEND})
        token = made.token()
        for origin, allowed in ((FRIEND, True), (STRANGER, False)):
            request = urllib.request.Request(
                f"{made.url}/api/jobs", headers={"Origin": origin, "Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(request) as answer:
                self.assertEqual(answer.headers.get("Access-Control-Allow-Origin"), origin if allowed else None)
            try:
                with connect(
                    made.url.replace("http", "ws") + "/ws",
                    origin=Origin(origin),
                    subprotocols=[Subprotocol("msgd.v1")],
                    additional_headers={"Authorization": f"Bearer {token}"},
                    proxy=None,
                ) as socket:
                    self.assertTrue(allowed)
                    self.assertIn('"welcome"', str(socket.recv(10)))
            except InvalidStatus as refused:
                self.assertFalse(allowed)
                self.assertEqual(refused.response.status_code, 403)


class RevocationTest(SynchronousTestCase):
    """What is stopped with the tokens of a ``sub``."""

    def test_rules_and_endpoints(self) -> None:
        """Both are off from then on."""
        made = embedded(self)
        made.start()
        ann = made.token("ann", "submit:webhook", "subscribe:app.#")
        url = "https://hooks.example.com/"
        rule = {"name": "Invoices", "topics": ["app.#"], "action": "webhook", "to": [url]}
        for path, body in (("/api/rules", rule), ("/api/webhooks", {"url": url})):
            self.assertEqual(made.call("POST", path, body, token=ann)[0], 201)
        root = made.token("root")
        self.assertEqual(made.call("POST", "/api/revoke", {"sub": "ann"}, token=root)[0], 200)
        for path in ("/api/rules", "/api/webhooks"):
            (shown,) = made.call("GET", path, token=root)[1][path.rpartition("/")[2]]
            self.assertEqual((shown["owner"], shown["enabled"]), ("ann", False))
            self.assertIn("revoked", shown["reason"])


class CrawlTest(SynchronousTestCase):
    """``[jobs.crawl]`` and ``[network]``."""

    def test_robots_and_contact(self) -> None:
        """robots.txt is obeyed, unless that is switched off; the contact stands in the User-Agent."""
        made, site = embedded(self), AskedSite(self)
        with logs_on_failure(made):
            made.start()
            self.assertEqual(made.ended(made.submit("crawl", url=site.url, delay=0))["state"], "failed")
            self.assertEqual(site.paths, ["/robots.txt"])
            made.stop("msgd")
            site.paths.clear()
            site.agents.clear()
            made.start(environment={"MSGD_JOBS_CRAWL_ROBOTS": "false", "MSGD_JOBS_CRAWL_CONTACT": "me@example.com"})
            self.assertEqual(made.ended(made.submit("crawl", url=site.url, delay=0))["result"]["pages"], 1)
            self.assertNotIn("/robots.txt", site.paths)
            (agent,) = site.agents
            self.assertIn("me@example.com", agent)
            self.assertIn("msgd", agent)

    def test_concurrency(self) -> None:
        """So many jobs of the type are performed at the same time, and the others wait."""
        made, site = embedded(self, more="[jobs.crawl]\nconcurrency = 2\n"), started(self, Turnstile(2))
        with logs_on_failure(made):
            made.start()
            jobs = [made.submit("crawl", url=site.url, delay=0) for _ in range(3)]

            def states() -> list[str]:
                return sorted(made.job(job)["state"] for job in jobs)

            until(lambda: states() == ["queued", "running", "running"], "two of three run")
            site.admit(100)
            for job in jobs:
                self.assertEqual(made.ended(job)["state"], "done")

    def test_network(self) -> None:
        """Without a network allowed the crawler does not reach this machine."""
        made, site = embedded(self), AskedSite(self)
        made.start(environment={"MSGD_NETWORK_ALLOW": ""})
        ended = made.ended(made.submit("crawl", url=site.url, delay=0))
        self.assertEqual(ended["state"], "failed")
        self.assertIn("127.0.0.1", ended["error"]["message"])
        self.assertEqual(site.paths, [])


class OwnWorkerTest(SynchronousTestCase):
    """A worker of one's own beside the other daemons."""

    def test_on_many_processes(self) -> None:
        """The README's worker as one more process on RabbitMQ and PostgreSQL."""
        made = distributed(self)
        with logs_on_failure(made):
            made.start("recorder", "notifier")
            tac = Deployment(("shout",), launcher=LAUNCHER)
            self.addCleanup(tac.close)
            (tac.folder / "shout.py").write_text(example(), encoding="utf-8")
            tac.launch(environment={"MSGD_CONFIG": str(made.config)})
            with logs_on_failure(tac):
                until(lambda: "shout" in self.types(made), "the type is announced")
                job = made.submit("shout", text="hello", times=2)
                self.assertEqual(made.ended(job)["state"], "done")
                events = made.events(f"job.{job}")
                self.assertEqual([event["type"] for event in events], ["started", "result", "result", "done"])

    def types(self, made: Deployment) -> list[str]:
        return [one["name"] for one in made.call("GET", "/api/types")[1]["types"]]
