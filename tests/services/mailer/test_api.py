"""The mailer's routes, asked over HTTP of msgd on its embedded defaults, where mail goes into a maildir."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.worker import PART
from tests.services.mailer.bouncing import NOTICE
from tests.stories.deployment import PATIENCE_S, Deployment, embedded, logs_on_failure, until

MORE = """
[mail]
sender = "The News <news@sender.example>"
unsubscribe = "http://127.0.0.1"
list_id = "news.sender.example"
bounces = "bounces@sender.example"
bounce_folder = "{folder}"
rate = {rate}
"""


COUNT = 200
"""Recipients, of whom some are left when a busy machine comes to cancel: 20 a second are mailed."""


class ApiTests(SynchronousTestCase):
    """One deployment, asked for everything."""

    timeout = 180

    def begin(self, *, rate: float = 0.0) -> Deployment:
        self.folder = Path(self.mktemp()).absolute()
        made = embedded(self, more=MORE.format(folder=self.folder, rate=rate))
        made.start()
        return made

    def outbox(self, made: Deployment) -> list[Path]:
        new = made.folder / "var" / "outbox" / "new"
        return list(new.iterdir()) if new.is_dir() else []

    def raw(
        self, made: Deployment, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Asked without any token, as a mail program would."""
        request = urllib.request.Request(made.url + path, data=body, method=method)
        if body is not None:
            request.add_header("Content-Type", "application/x-www-form-urlencoded")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), {}

    def test_ledger_unsubscribe_and_bounce(self) -> None:
        """A mail is sent; its owner leaves by one click; a bounce comes back; the ledger and the lists tell of it."""
        made = self.begin()
        with logs_on_failure(made):
            to = [{"email": "anna@example.com", "name": "Anna"}, {"email": "ben@example.org"}]
            job = made.submit("mail", to=to, subject="Hello {{ name }}", text="{{ unsubscribe_url }}")
            self.assertEqual(made.ended(job)["state"], "done")
            files = {message["to"]: message for message in (_parsed(file) for file in self.outbox(made))}
            self.assertEqual(set(files), {"Anna <anna@example.com>", "ben@example.org"})
            message = files["ben@example.org"]
            path = "/" + str(message["list-unsubscribe"]).strip("<>").split("/", 3)[3]
            self.check_leaving(made, path)
            self.check_bounce(made, job, str(files["Anna <anna@example.com>"]["return-path"]).strip("<>"))
            again = made.submit("mail", to=to, subject="x", text="y")
            self.assertEqual(made.ended(again)["result"]["suppressed"], 2)
            self.check_suppressions(made)
            self.check_preview(made)
            self.check_rights(made, job)

    def test_results_of_a_split_mail(self) -> None:
        """They are those of its parts, each once, in every form; run again, those of the new run."""
        made = self.begin()
        with logs_on_failure(made):
            to = [{"email": f"p{number}@example.com"} for number in range(PART + 1)]
            job = made.submit("mail", to=to, subject="x", text="y")
            self.assertEqual(made.ended(job)["state"], "done")
            found = made.call("GET", f"/api/jobs/{job}/results")[1]
            self.assertEqual(sorted(one["email"] for one in found), sorted(one["email"] for one in to))
            self.assertEqual(len({(one["part"], one["seq"]) for one in found}), PART + 1)
            self.assertEqual(len({one["part"] for one in found}), 2)
            for parent, count in (("none", 1), (job, 2)):
                self.assertEqual(len(made.call("GET", f"/api/jobs?type=mail&parent={parent}")[1]["jobs"]), count)
            lines = made.call("GET", f"/api/jobs/{job}/results?format=csv")[1].splitlines()
            self.assertEqual(len(lines), PART + 2)
            made.call("POST", f"/api/jobs/{job}/retry")
            self.assertEqual(made.ended(job)["result"]["sent"], PART + 1)
            self.assertEqual(made.call("GET", f"/api/jobs/{job}/results")[1], [])

    def check_leaving(self, made: Deployment, path: str) -> None:
        status, page, headers = self.raw(made, "GET", path)
        self.assertEqual((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("ben@example.org", page)
        self.assertIn("form-action 'self'", headers["content-security-policy"])
        self.assertEqual(made.call("GET", "/api/suppressions")[1]["suppressions"], [], "a GET has done something")
        for _ in range(2):  # RFC 8058: what the mail program sends
            self.assertEqual(self.raw(made, "POST", path, b"List-Unsubscribe=One-Click")[0], 200)
        (found,) = made.call("GET", "/api/suppressions")[1]["suppressions"]
        self.assertEqual((found["email"], found["reason"]), ("ben@example.org", "unsubscribed"))
        for wrong in (path[:-1], "/unsubscribe/x", path.replace("/unsubscribe/", "/unsubscribe/A")):
            self.assertEqual(self.raw(made, "POST", wrong, b"")[0], 404)

    def check_bounce(self, made: Deployment, job: str, address: str) -> None:
        self.assertTrue(address.startswith("bounces+"), address)
        for part in ("tmp", "new", "cur"):
            (self.folder / part).mkdir(parents=True)
        for number, name in enumerate((address, "bounces+1-1-aaaaaaaaaaaaaaaa@sender.example", address)):
            (self.folder / "tmp" / f"m{number}").write_bytes(NOTICE % name.encode())
            (self.folder / "tmp" / f"m{number}").rename(self.folder / "new" / f"m{number}")

        def bounced() -> bool:
            rows = made.call("GET", f"/api/jobs/{job}/recipients?state=bounced")[1]["recipients"]
            return [row["email"] for row in rows] == ["anna@example.com"]

        until(bounced, "the bounce is in the ledger")
        until(lambda: len(list((self.folder / "cur").iterdir())) == 3, "the notices are read")

        def told() -> bool:
            return [event["type"] for event in made.events(f"job.{job}")].count("bounced") == 1

        until(told, "the bounce is an event")
        row = made.call("GET", f"/api/jobs/{job}/recipients?state=bounced")[1]["recipients"][0]
        self.assertEqual((row["code"], row["reply"]), (550, "5.1.1 550 5.1.1 nobody here"))

    def check_suppressions(self, made: Deployment) -> None:
        self.assertEqual(
            made.call("POST", "/api/suppressions", {"email": "C@Example.com", "detail": "asked by phone"})[0], 201
        )
        self.assertEqual(made.call("POST", "/api/suppressions", {"email": "c@example.com"})[0], 200)
        status, problem = made.call("POST", "/api/suppressions", {"email": "d@example.com", "detail": "a\0"})
        self.assertEqual((status, problem["where"]), (400, "detail"))
        status, page = made.call("GET", "/api/suppressions?limit=2")
        self.assertEqual(
            (status, [one["email"] for one in page["suppressions"]]), (200, ["anna@example.com", "ben@example.org"])
        )
        rest = made.call("GET", f"/api/suppressions?after={page['next']}")[1]
        self.assertEqual([one["detail"] for one in rest["suppressions"]], ["asked by phone"])
        self.assertEqual(len(made.call("GET", "/api/suppressions?search=BEN")[1]["suppressions"]), 1)
        self.assertEqual(made.call("DELETE", "/api/suppressions/c@example.com")[0], 204)
        self.assertEqual(made.call("DELETE", "/api/suppressions/c@example.com")[0], 404)
        self.assertEqual(made.call("POST", "/api/suppressions", {"email": "nobody"})[0], 400)

    def check_preview(self, made: Deployment) -> None:
        body = {
            "subject": "Hi {{ name }}",
            "html": "<p>{{ name }}</p>",
            "recipient": {"email": "a@b.example", "name": "A"},
        }
        status, shown = made.call("POST", "/api/mail/preview", body)
        self.assertEqual((status, shown["subject"], shown["html"], shown["text"]), (200, "Hi A", "<p>A</p>", "A\n"))
        self.assertIn(["To", "A <a@b.example>"], shown["headers"])
        for wrong, named in (
            ({"text": "{{ town }}"}, "town"),
            ({"text": "{% for %}"}, "text"),
            ({"recipient": {"email": "x"}}, "email"),
            ({"attachments": ["nothing"]}, "upload"),
        ):
            status, problem = made.call("POST", "/api/mail/preview", {**body, **wrong})
            self.assertEqual(status, 400, problem)
            self.assertIn(named, problem["detail"])

    def check_rights(self, made: Deployment, job: str) -> None:
        """What is somebody else's is not there; what takes a right says which."""
        stranger = made.token("eve", "submit:mail")
        for method, path, wanted in (
            ("GET", f"/api/jobs/{job}/recipients", 404),
            ("GET", f"/api/mail/{job}", 404),
            ("POST", f"/api/mail/{job}/pause", 404),
            ("GET", "/api/suppressions", 403),
            ("DELETE", "/api/suppressions/anna@example.com", 403),
        ):
            self.assertEqual(made.call(method, path, token=stranger)[0], wanted, path)
        self.assertEqual(made.call("GET", f"/api/jobs/{job}/recipients?state=x")[0], 400)
        status, table = made.call("GET", f"/api/jobs/{job}/recipients?format=csv")
        self.assertEqual((status, len(table.splitlines())), (200, 3))

    def test_pause_resume_cancel(self) -> None:
        """What was cancelled goes on where it ended when it is run again, and nobody gets it twice."""
        made = self.begin(rate=20.0)
        with logs_on_failure(made):
            to = [{"email": f"p{number}@example.com"} for number in range(COUNT)]
            job = made.submit("mail", to=to, subject="x", text="y")
            until(lambda: len(self.outbox(made)) > 25, "some are sent")
            self.assertEqual(made.call("POST", f"/api/mail/{job}/pause", {})[0], 200)
            until(
                lambda: made.call("GET", f"/api/mail/{job}")[1]["states"].get("sending", 0) == 0,
                "all is put down",
            )
            before = len(self.outbox(made))
            until(lambda: made.job(job)["state"] == "running", "it is still there")
            self.assertLessEqual(len(self.outbox(made)) - before, 2)
            self.assertEqual(made.call("POST", f"/api/mail/{job}/resume", {})[0], 200)
            until(lambda: len(self.outbox(made)) > before, "it goes on")
            made.call("DELETE", f"/api/jobs/{job}")
            self.assertEqual(made.ended(job)["state"], "cancelled")
            self.assertEqual(made.call("POST", f"/api/mail/{job}/pause", {})[0], 409)
            left = len(self.outbox(made))
            self.assertLess(left, COUNT)
            self.assertEqual(made.call("POST", f"/api/jobs/{job}/retry", {})[0], 202)
            ended = made.ended(job)
            self.assertEqual(ended["state"], "done", ended)
            states = made.call("GET", f"/api/mail/{job}")[1]["states"]
            received = [re.sub(r"\n.*", "", str(_parsed(file)["to"])) for file in self.outbox(made)]
            self.assertEqual(len(received), len(set(received)))
            self.assertEqual(states.get("sent", 0) + states.get("unknown", 0), COUNT)
            self.assertLessEqual(states.get("sent", 0), len(received))


def _parsed(file: Path) -> Any:
    return message_from_bytes(file.read_bytes(), policy=policy.default)
