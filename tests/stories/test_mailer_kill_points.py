"""kill -9 between each pair of neighbouring effects of a mail, by name: each recipient once, or *unknown*."""

from __future__ import annotations

import signal

from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.hands import IN_HAND
from tests.stories.deployment import embedded, logs_on_failure
from tests.stories.killing import ARMED, VARIABLE
from tests.stories.killing_mailer import POINTS

COUNT = 60


class MailerKillPointTests(SynchronousTestCase):
    """At every point: the process dies there, is started again, and ledger and maildir agree."""

    timeout = 300

    def test_every_point(self) -> None:
        """On the embedded defaults, where mail goes into a folder."""
        made = embedded(self, launcher=("-m", "tests.stories.killing_mailer"))
        made.start()
        made.token()
        outbox = made.folder / "var" / "outbox" / "new"
        for point in POINTS:
            with logs_on_failure(made):
                made.stop("msgd")
                made.start(environment={VARIABLE: point})
                (made.folder / ARMED).touch()
                word = point.replace("|", "-")
                to = [{"email": f"{word}.{number}@example.com"} for number in range(COUNT)]
                job = made.submit("mail", to=to, subject="x", text="y")
                self.assertEqual(made.wait("msgd"), -signal.SIGKILL, f"it did not die at {point}")
                (made.folder / ARMED).unlink()
                made.start()
                self.assertEqual(made.ended(job)["state"], "done", point)
            status, page = made.call("GET", f"/api/jobs/{job}/recipients?limit=1000")
            self.assertEqual((status, len(page["recipients"])), (200, COUNT))
            files = [file.read_text().split("\n")[1] for file in outbox.iterdir()]
            received = [line.removeprefix("Delivered-To: ") for line in files if word in line]
            self.assertEqual(len(received), len(set(received)), f"mailed twice: {point}")
            states = {row["email"]: row["state"] for row in page["recipients"]}
            sent = {email for email, state in states.items() if state == "sent"}
            unknown = {email for email, state in states.items() if state == "unknown"}
            self.assertEqual(sent | unknown, set(states), point)
            self.assertLessEqual(sent, set(received), point)
            self.assertLessEqual(set(received), sent | unknown, point)
            self.assertLessEqual(len(unknown), IN_HAND, point)
            told = {event["data"]["email"] for event in made.events(f"job.{job}") if event["type"] == "sent"}
            self.assertLessEqual(sent, told, point)
