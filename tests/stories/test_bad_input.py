"""Whatever is wrong is answered with what, where and what to do; the daemon goes on, and nothing else is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.stories.deployment import PATIENCE_S, Deployment, embedded, logs_on_failure
from tests.stories.site import serve

MIB = 1024 * 1024


class BadInputTests(SynchronousTestCase):
    """One deployment gets everything that is wrong, and then a crawl that is right."""

    def test_everything_wrong_is_answered_and_a_crawl_still_works(self) -> None:
        """HTTP, WebSocket and command line, on the embedded defaults."""
        made = embedded(self)
        made.start()
        site = serve(self, 5)
        with logs_on_failure(made):
            self.check_http(made)
            self.check_websocket(made)
            self.check_commands(made)
            job = made.submit("crawl", url=site.url, match=[{"regex": "EUR [0-9.]+"}], delay=0)
            self.assertEqual(made.ended(job)["state"], "done")
            self.assertNotIn("Traceback", made.log("msgd"))

    def problem(self, answer: tuple[int, Any], status: int, code: str, *words: str) -> None:
        got, document = answer
        self.assertEqual((got, document.get("code")), (status, code), document)
        for word in words:
            self.assertIn(word, json.dumps(document))

    def check_http(self, made: Deployment) -> None:
        def crawl(**params: Any) -> tuple[int, Any]:
            return made.call("POST", "/api/jobs", {"type": "crawl", "params": params})

        url = "http://127.0.0.1:1/"
        self.problem(made.call("POST", "/api/jobs", {"type": "nope", "params": {}}), 400, "unknown-type", "nope")
        self.problem(crawl(), 400, "invalid-params", "url")
        self.problem(crawl(url="ftp://x/"), 400, "invalid-params", "url")
        self.problem(crawl(url="not a url"), 400, "invalid-params", "url")
        self.problem(crawl(url=url, match=[{"regex": "("}]), 400, "invalid-params", "regex")
        self.problem(crawl(url=url, match=[{"xpath": "//["}]), 400, "invalid-params", "xpath")
        self.problem(crawl(url=url, match=[{"css": "a["}]), 400, "invalid-params", "css")
        self.problem(crawl(url=url, max_pages=-1), 400, "invalid-params", "max_pages")
        self.problem(crawl(url=url, no_such_param=1), 400, "invalid-params", "no_such_param")
        self.problem(made.call("POST", "/api/jobs", raw=b"{nope"), 400, "not-json")
        self.problem(made.call("POST", "/api/events", raw=b"\xff\xfe"), 400, "not-json")
        big = {"topic": "room.a", "type": "say", "data": "x" * (MIB + 1)}
        self.problem(made.call("POST", "/api/events", big), 413, "too-large")
        self.problem(made.call("POST", "/api/events", {"topic": "a b", "type": "x", "data": 1}), 400, "invalid-topic")
        self.problem(made.call("POST", "/api/events", {"topic": "job.x", "type": "x", "data": 1}), 403, "forbidden")
        self.problem(made.call("GET", "/api/topics/room.a/events?since=rubbish"), 400, "invalid-cursor")
        self.problem(made.call("GET", "/api/jobs/none-such"), 404, "not-found", "none-such")
        self.problem(made.call("GET", "/api/no-such-page"), 404, "not-found")
        self.problem(made.call("GET", "/api/jobs", token="not.a.token"), 401, "unauthenticated")
        forged = made.token("eve", "admin:#")[:-4] + "AAAA"
        self.problem(made.call("GET", "/api/jobs", token=forged), 401, "unauthenticated")
        weak = made.token("bob", "subscribe:room.a")
        self.problem(
            made.call("POST", "/api/jobs", {"type": "crawl", "params": {"url": url}}, token=weak), 403, "forbidden"
        )

    def socket(self, made: Deployment, token: str) -> ClientConnection:
        return connect(
            made.url.replace("http", "ws") + "/ws", subprotocols=["msgd.v1"],  # type: ignore[list-item]  # it wants a NewType of str
            additional_headers={"Authorization": f"Bearer {token}"}, max_size=None, proxy=None,
        )  # fmt: skip

    def check_websocket(self, made: Deployment) -> None:
        token = made.token()
        with self.socket(made, token) as socket:
            self.assertEqual(json.loads(socket.recv(10))["op"], "welcome")

            def refused(operation: Any, code: str) -> None:
                socket.send(json.dumps({**operation, "ref": 1}))
                answer = json.loads(socket.recv(10))
                self.assertEqual((answer["op"], answer.get("code"), answer.get("ref")), ("error", code, 1), answer)

            refused({"op": "subscribe", "topic": "a b"}, "invalid-topic")
            refused({"op": "subscribe", "topic": "room.a", "since": "rubbish"}, "invalid-cursor")
            refused({"op": "submit", "type": "nope", "params": {}}, "unknown-type")
            refused({"op": "submit", "type": "crawl", "params": {"url": 3}}, "invalid-params")
            refused({"op": "publish", "topic": "job.x", "type": "x", "data": 1}, "forbidden")
            refused({"op": "cancel", "job": "none-such"}, "not-found")
            socket.send(json.dumps({"op": "ping", "ref": 2}))
            self.assertEqual(json.loads(socket.recv(10))["op"], "ok")
        for wrong, code in (("{nope", 4100), ('{"op":"fly"}', None), ("x" * 70_000, None)):
            with self.socket(made, token) as socket:
                socket.recv(10)
                socket.send(wrong)
                try:
                    answer = json.loads(socket.recv(10))
                    self.assertEqual(answer["op"], "error", wrong[:20])
                except ConnectionClosed as closed:
                    got = closed.rcvd.code if closed.rcvd else None
                    self.assertIn(got, {4100, 1009} if code is None else {code}, wrong[:20])

    def check_commands(self, made: Deployment) -> None:
        for arguments, code, word in (
            (("crawl", "http://127.0.0.1:1/", "--match", "("), 2, "regex"),
            (("submit", "nope"), 2, "nope"),
            (("jobs", "show", "none-such"), 2, "none-such"),
            (("watch", "a b"), 2, "a b"),
            (("--url", "http://127.0.0.1:1", "--token", "x", "jobs", "list"), 3, "127.0.0.1:1"),
            (("--url", made.url, "--token", "x", "jobs", "list"), 4, "token"),
            (("no-such-command",), 2, "no-such-command"),
        ):
            done = made.command(*arguments)
            self.assertEqual(done.returncode, code, (arguments, done.stderr))
            self.assertIn(word, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_a_wrong_configuration_key_is_named_with_its_file_and_line(self) -> None:
        """twistd and the command both say where, and leave with a status that is not 0."""
        made = embedded(self, more="[jobs.crawl]\nconcurency = 3\n")
        line = made.config.read_text().split("\n").index("concurency = 3") + 1
        daemon = subprocess.run(
            [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "msgd", "-c", made.config],
            capture_output=True, text=True, cwd=made.folder, timeout=PATIENCE_S, check=False,
            env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        for done in (daemon, made.command("check")):
            said = done.stdout + done.stderr
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"msgd.toml:{line}", said)
            self.assertIn("concurrency", said, "the key that was meant")
