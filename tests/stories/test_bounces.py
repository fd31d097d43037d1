"""Bounces out of a folder on a real IMAP server, while the mailer and the server are killed and started again."""

from __future__ import annotations

import re
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import dovecot
from tests.servers.dovecot import Dovecot
from tests.services.mailer.bouncing import NOTICE
from tests.stories.deployment import Deployment, embedded, logs_on_failure, until
from tests.stories.killing import ARMED, VARIABLE
from tests.stories.killing_mailer import BOUNCE_POINTS

MORE = """
[mail]
sender = "The News <news@sender.example>"
bounces = "bounces@sender.example"
bounce_folder = "imap://{user}@localhost:{port}"
bounce_password_file = "{password_file}"
bounce_ca_file = "{ca_file}"
"""


class BouncesTests(SynchronousTestCase):
    """One msgd on its embedded defaults, with a Dovecot."""

    timeout = 180

    def test_each_once(self) -> None:
        """A notice bounces the mail of its recipient, who gets no more mail: once, whether the mailer dies before that
        is saved or after, and whether the server was restarted."""
        server = dovecot.server(self)
        more = MORE.format(
            user=dovecot.USER, port=server.port, password_file=server.password_file, ca_file=server.ca_file
        )
        made = embedded(self, more=more, launcher=("-m", "tests.stories.killing_mailer"))
        made.start()
        made.token()
        to = [f"recipient{number}@example.com" for number in range(4)]
        job = made.submit("mail", to=[{"email": one} for one in to], subject="x", text="y")
        self.assertEqual(made.ended(job)["state"], "done")
        senders = self.senders(made)
        with logs_on_failure(made):
            for recipient, point in zip(to, BOUNCE_POINTS, strict=False):
                made.stop("msgd")
                made.start(environment={VARIABLE: point})
                (made.folder / ARMED).touch()
                self.bounce(server, senders[recipient])
                self.assertEqual(made.wait("msgd"), -signal.SIGKILL, f"it did not die at {point}")
                (made.folder / ARMED).unlink()
                made.start()
                self.bounced(made, job, recipient)
            server.stop()
            server.start()
            self.bounce(server, senders[to[2]])
            self.bounced(made, job, to[2])
            until(lambda: server.flags() == [{"\\Seen", "msgd-read"}] * 3, "all are marked")
            # What the second mailer saved and had not published is published when its lease is over.
            until(lambda: len(self.told(made, job)) >= 3, "all are told")
        self.assertEqual(sorted(self.told(made, job)), to[:3])
        _, found = made.call("GET", "/api/suppressions")
        self.assertEqual([one["email"] for one in found["suppressions"]], to[:3])
        self.assertEqual(self.states(made, job)[to[3]], "sent")

    def bounce(self, server: Dovecot, sender: str) -> None:
        """The receiver's server has changed its mind."""
        server.deliver(NOTICE % sender.encode())

    def bounced(self, made: Deployment, job: str, recipient: str) -> None:
        until(lambda: self.states(made, job)[recipient] == "bounced", f"{recipient} has bounced")

    def told(self, made: Deployment, job: str) -> list[str]:
        return [event["data"]["email"] for event in made.events(f"job.{job}") if event["type"] == "bounced"]

    def states(self, made: Deployment, job: str) -> dict[str, str]:
        page: Any = made.call("GET", f"/api/jobs/{job}/recipients?limit=1000")[1]
        return {row["email"]: row["state"] for row in page["recipients"]}

    def senders(self, made: Deployment) -> dict[str, str]:
        """The envelope's sender of each mail that was sent, by its recipient."""
        texts = [file.read_text() for file in (made.folder / "var" / "outbox" / "new").iterdir()]
        heads = [re.match(r"Return-Path: <(.+)>\nDelivered-To: (.+)\n", text) for text in texts]
        return {head[2]: head[1] for head in heads if head is not None}
