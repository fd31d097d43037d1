"""Story 5, without the clock: a newsletter to thousands, its mailers killed at will, each recipient once."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.hands import IN_HAND
from tests.servers import postgres, rabbitmq
from tests.servers.smtp import SmtpServer
from tests.stories.deployment import Deployment, another, embedded, logs_on_failure, until

RECIPIENTS = 10_000
KILLS = 6
"""Three of each mailer, spread over the newsletter."""

PACE_S = 300.0

MAIL = """
[mail]
smtp = "smtp://127.0.0.1:{port}"
starttls = "off"
sender = "The News <news@sender.example>"
unsubscribe = "https://msgd.example.com"
list_id = "news.sender.example"
per_domain = 50
defer = 2.0
"""


class NewsletterTests(SynchronousTestCase):
    """What the ledger says is what the server has received."""

    timeout = 600

    def serve(self) -> SmtpServer:
        server = SmtpServer(Path(self.mktemp()).absolute(), "--pipelining", "--quick")
        self.addCleanup(server.stop)
        return server

    def submit(self, made: Deployment, count: int) -> str:
        """A newsletter to so many, one in a thousand of whom there is not, and one whose server wants it later."""
        to = [{"email": _address(number), "vars": {"n": number}} for number in range(1, count + 1)]
        return made.submit("mail", to=to, subject="News for {{ n }}", text="Hello {{ n }}!\n")

    def upload(self, made: Deployment, content: bytes) -> str:
        """The id of an uploaded file."""
        request = urllib.request.Request(f"{made.url}/api/uploads?name=list.csv", data=content, method="POST")
        request.add_header("Authorization", f"Bearer {made.token()}")
        request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request, timeout=180) as answer:
            return str(json.load(answer)["id"])

    def ended(self, made: Deployment, job: str) -> dict[str, Any]:
        """The job, done. It is asked for when nobody is left to mail to: its answer has all its recipients in it."""

        def left() -> int:
            states = made.call("GET", f"/api/mail/{job}")[1]["states"]
            return sum(states.get(state, 0) for state in ("queued", "sending", "deferred"))

        until(lambda: left() == 0, "all are mailed", seconds=PACE_S)
        ended = made.ended(job)
        self.assertEqual(ended["state"], "done", ended)
        return ended

    def ledger(self, made: Deployment, job: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after = 0
        while True:
            status, page = made.call("GET", f"/api/jobs/{job}/recipients?limit=1000&after={after}")
            assert status == 200, (status, page)
            rows += page["recipients"]
            if page["next"] is None:
                return rows
            after = page["next"]

    def check(self, made: Deployment, server: SmtpServer, job: str, count: int, most_unknown: int) -> None:
        """Every recipient exactly once or unknown, none missed, none doubled."""
        received = Counter(server.recipients())
        self.assertEqual([one for one, times in received.items() if times > 1], [], "mailed twice")
        rows = self.ledger(made, job)
        self.assertEqual([row["row"] for row in rows], list(range(1, count + 1)))
        states = Counter(row["state"] for row in rows)
        self.assertLessEqual(set(states), {"sent", "bounced", "unknown"})
        self.assertLessEqual(states["unknown"], most_unknown)
        sent = {row["email"] for row in rows if row["state"] == "sent"}
        unknown = {row["email"] for row in rows if row["state"] == "unknown"}
        self.assertEqual(sent - set(received), set(), "sent, says the ledger, and nobody has it")
        self.assertEqual(set(received) - sent - unknown, set(), "received, and the ledger does not know")
        bounced = {row["email"] for row in rows if row["state"] == "bounced"}
        there_is_not = {_address(number) for number in range(1, count + 1) if _address(number).startswith("r550")}
        self.assertLessEqual(bounced, there_is_not)
        self.assertLessEqual(there_is_not - bounced, unknown)

    def test_two_mailers_killed(self) -> None:
        """10,000 recipients on RabbitMQ and PostgreSQL, by two mailers, each killed -9 three times."""
        server = self.serve()
        broker, vhost = rabbitmq.node(), rabbitmq.fresh_vhost(self)
        more = MAIL.format(port=server.port) + "[jobs.mail]\nslice = 2\n"
        made = Deployment(
            ("recorder", "notifier", "mailer"),
            broker=broker.url(vhost),
            database=postgres.fresh_database(self),
            more=more,
        )
        self.addCleanup(made.close)
        made.start()
        other = another(self, made, "mailer", more=more)
        other.start()
        with logs_on_failure(made, other):
            job = self.submit(made, RECIPIENTS)
            began = time.monotonic()
            for number in range(1, KILLS + 1):
                wanted = number * RECIPIENTS // (KILLS + 2)
                until(lambda wanted=wanted: len(server.recipients()) >= wanted, f"{wanted} mails")  # type: ignore[misc]  # mypy infers no default
                victim = (made, other)[number % 2]
                victim.kill("mailer")
                victim.start("mailer")
            ended = self.ended(made, job)
            self.check(made, server, job, RECIPIENTS, KILLS * IN_HAND)
            result = ended["result"]
            self.assertEqual(result["recipients"], RECIPIENTS)
            sys.stderr.write(f"\n{time.monotonic() - began:.1f} s, {result}\n")  # for the report of a run

    def test_embedded_killed(self) -> None:
        """10,000 recipients out of an uploaded CSV, on the embedded defaults, whose one process is killed twice."""
        server = self.serve()
        made = embedded(self, more=MAIL.format(port=server.port))
        made.start()
        with logs_on_failure(made):
            list_ = "email,n\r\n" + "".join(f"{_address(number)},{number}\r\n" for number in range(1, RECIPIENTS + 1))
            upload = self.upload(made, list_.encode())
            job = made.submit("mail", to={"upload": upload}, subject="News for {{ n }}", text="Hello {{ n }}!\n")
            for wanted in (RECIPIENTS // 5, 3 * RECIPIENTS // 5):
                until(lambda wanted=wanted: len(server.recipients()) >= wanted, f"{wanted} mails")  # type: ignore[misc]  # mypy infers no default
                made.kill("msgd")
                made.start()
            self.ended(made, job)
            self.check(made, server, job, RECIPIENTS, 2 * IN_HAND)


def _address(number: int) -> str:
    script = {500: "r550.", 700: "r451x1."}.get(number % 1000, "")
    return f"{script}p{number}@d{number % 7}.example"
