"""``msgd mail``, into the folder that takes all mail until a server is configured."""

from __future__ import annotations

import csv
import io
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd.cli.mail import recipient, told
from tests.cli.deployed import CommandCase, Terminal, deployment, ended, read_until


class MailTest(CommandCase):
    """Mail from the command line."""

    def file(self, name: str, content: str) -> str:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / name).write_text(content, encoding="utf-8")
        return str(folder / name)

    def received(self, address: str) -> Any:
        """The one mail to this address."""
        folder = deployment().folder / "var" / "outbox" / "new"
        (found,) = (
            message
            for message in (message_from_bytes(file.read_bytes(), policy=policy.default) for file in folder.iterdir())
            if address in str(message["to"])
        )
        return found

    def test_sent(self) -> None:
        """Text from standard input, HTML, variables, a file that goes along; the counts at the end."""
        out, err = self.msgd(
            "mail", "--to", "Anna Bell <cli-anna@example.com>", "--to", "cli-ben@example.com",
            "--subject", "Hello {{ name }}", "--text", "-", "--html", self.file("a.html", "<p>{{ n + 1 }}</p>"),
            "--var", "city=Köln", "--var", "n=16", "--attach", self.file("Plan.txt", "the plan\n"),
            given=b"In {{ city }}, {{ n }}.\n",
        )  # fmt: skip
        self.assertEqual(out, "")
        self.assertRegex(err, r"^job \w+\ndone: 2 sent\n$")
        message = self.received("cli-anna@example.com")
        self.assertEqual(message["subject"], "Hello Anna Bell")
        self.assertEqual(message.get_body(("plain",)).get_content().strip(), "In Köln, 16.")
        self.assertIn("<p>17</p>", message.get_body(("html",)).get_content())
        self.assertEqual([part.get_filename() for part in message.iter_attachments()], ["Plan.txt"])

    def test_list(self) -> None:
        """A list in a file; who has not got it is told, on stdout, and by the exit code."""
        rows = "email,name,n\ncli-c@example.com,C,1\nnobody,,2\ncli-gone@example.com,,3\n"
        deployment().call("POST", "/api/suppressions", {"email": "cli-gone@example.com"})
        given = ("--csv", self.file("list.csv", rows), "--subject", "{{ n }}", "--text", self.file("t.txt", "{{ n }}"))
        out, err = self.msgd("mail", *given, code=1)
        bounced, suppressed = out.splitlines()
        self.assertRegex(bounced, "^bounced +nobody +not sent: .* is not an address")
        self.assertRegex(suppressed, "^suppressed +cli-gone@example.com +added$")
        self.assertIn("done: 1 sent, 1 bounced, 1 suppressed", err)
        job = err.split()[1]
        told = self.lines("mail", "follow", "--json", job, code=1)
        self.assertEqual([one["state"] for one in told], ["sent", "bounced", "suppressed"])
        self.assertEqual(
            self.msgd("mail", "recipients", job, "--state", "sent")[0].split()[:2], ["sent", told[0]["email"]]
        )
        table = csv.DictReader(io.StringIO(self.msgd("mail", "recipients", job, "--format", "csv")[0]))
        self.assertEqual([row["email"] for row in table], [one["email"] for one in told])
        self.assertEqual(self.lines("mail", "show", "--json", job)[0]["recipients"], 3)
        self.assertRegex(self.msgd("mail", "show", job)[0], r"(?m)^bounced +1$")

    def test_detached(self) -> None:
        """Ctrl-C leaves it running and says how to go on; paused, resumed, followed with a bar to its end."""
        self.pause_type("mail")
        text = self.file("t.txt", "Hello")
        process = self.begin(
            "mail", "--to", "cli-d@example.com", "--to", "x@example.com", "--subject", "x", "--text", text
        )
        job = read_until(process, process.stderr, b"\n").decode().split()[1]
        code, out, err = self.interrupted(process)
        self.assertEqual((code, out), (130, ""))
        for command in ("mail follow", "mail pause", "jobs cancel"):
            self.assertIn(f"msgd {command} {job}", err)
        self.assertEqual(self.msgd("mail", "pause", job)[0], "paused\n")
        self.msgd("types", "resume", "mail")
        terminal = Terminal(self, ("mail", "follow", job))
        terminal.see(lambda screen: "paused" in screen and "queued 2" in screen, "how far it is")
        self.assertEqual(self.msgd("mail", "resume", job)[0], "going on\n")
        self.assertEqual(terminal.end(), 0)
        self.assertIn("done: 2 sent", terminal.screen)
        again = ("mail", "--to", "cli-e@example.com", "--subject", "x", "--text", text, "--detach", "--key", "mailed")
        once = [self.msgd(*again) for _ in "ab"]
        self.assertEqual(once[0], once[1])
        self.assertEqual(ended(once[0][0].strip())["state"], "done")

    def test_wrong_input(self) -> None:
        """What the server refuses names the field; what the command can see it refuses itself; a failed job is 1."""
        text = ("--text", self.file("t.txt", "Hello"))
        to, subject = ("--to", "a@example.com"), ("--subject", "x")
        for arguments, words in (
            ((), "Say to whom"),
            ((*to, "--csv", text[1], *subject, *text), "Say to whom"),
            ((*to, *subject), "Say what"),
            ((*to, *text), "--subject"),
            (("--csv", text[1], "--var", "a=b", *subject, *text), "--var"),
            ((*to, *subject, "--text", "-", "--html", "-"), "not both"),
            ((*to, *subject, "--text", "/no/such/file"), "/no/such/file"),
            ((*to, *subject, *text, "--var", "a"), "KEY=VALUE"),
            ((*to, *subject, *text, "--attach", "/no/such/file"), "/no/such/file"),
            (("--to", "nobody", *subject, *text), "nobody"),
            ((*to, "--subject", "{{ x", *text), "subject"),
            (("show", "none"), "none"),
        ):
            out, err = self.msgd("mail", *arguments, code=2)
            self.assertIn(words, err)
            self.assertEqual(out, "")
        self.assertIn("'x' is undefined", self.msgd("mail", *to, "--subject", "{{ x }}", *text, code=1)[1])
        token = self.msgd("token", "--sub", "eve", "--can", "submit:crawl")[0].strip()
        self.assertIn("submitting mail jobs", self.msgd("--token", token, "mail", *to, *subject, *text, code=4)[1])


class WordsTest(SynchronousTestCase):
    """Addresses and counts as they are written."""

    def test_words(self) -> None:
        """An address with a name or without; counts in the order of the states."""
        self.assertEqual(recipient(" a@example.com "), {"email": "a@example.com"})
        self.assertEqual(recipient('"Bell, Anna" <a@example.com>'), {"email": "a@example.com", "name": "Bell, Anna"})
        self.assertEqual(told({"bounced": 1, "sent": 1234, "queued": 0}), "1,234 sent, 1 bounced")
        self.assertEqual(told({}), "no recipients")
