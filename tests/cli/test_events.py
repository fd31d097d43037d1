"""``msgd watch`` and ``msgd publish``."""

from __future__ import annotations

import json
import signal

from msgd.services.mailer.worker import PART
from tests.cli.deployed import CommandCase, deployment, ended, read_until
from tests.stories.site import serve


class WatchTest(CommandCase):
    """Topics watched."""

    def test_what_happens(self) -> None:
        """What is published appears as it happens, on all the topics; Ctrl-C ends it with 130, SIGTERM with 143."""
        process = self.begin("watch", "demo.*", "other.topic")
        assert process.stderr is not None
        assert process.stdout is not None
        read_until(process, process.stderr, b"watching other.topic")
        out, err = self.msgd("publish", "demo.a", "said", '{"text": "hällo"}')
        self.assertRegex(out, r"^[0-9a-z]{26}\n$")
        self.assertEqual(err, "")
        self.msgd("publish", "other.topic", "said", "plain words")
        seen = read_until(process, process.stdout, b'plain words"\n').decode()
        first, second = seen.splitlines()
        self.assertRegex(first, r'^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d demo\.a #1 said \{"text":"hällo"\}$')
        self.assertTrue(second.endswith('other.topic #1 said "plain words"'), second)
        self.assertEqual(self.interrupted(process)[0], 130)
        process = self.begin("watch", "demo.*")
        assert process.stderr is not None
        read_until(process, process.stderr, b"watching")
        self.assertEqual(self.interrupted(process, by=signal.SIGTERM)[0], 143)

    def test_resume(self) -> None:
        """--json tells the cursor of each event, and --since goes on after it."""
        for number in range(3):
            self.msgd("publish", "resumed.a", "said", str(number))
        process = self.begin("watch", "resumed.a", "--since", "0", "--json")
        assert process.stdout is not None
        events = [json.loads(line) for line in read_until(process, process.stdout, b'"data":2').splitlines()]
        self.interrupted(process)
        self.assertEqual([(event["seq"], event["data"]) for event in events], [(1, 0), (2, 1), (3, 2)])
        process = self.begin("watch", "resumed.a", "--since", events[1]["cursor"], "--json")
        assert process.stdout is not None
        (last,) = read_until(process, process.stdout, b"\n").splitlines()
        self.assertEqual(json.loads(last), events[2])

    def test_until_end(self) -> None:
        """--until-end leaves with the watched job, and tells how it ended."""
        done = self.msgd("crawl", serve(self, 2).url, "--delay", "0", "--detach")[0].strip()
        ended(done)
        out, err = self.msgd("watch", f"job.{done}", "--since", "0", "--until-end")
        self.assertIn(" started {}", out.splitlines()[0])
        self.assertIn(" done {", out.splitlines()[-1])
        self.assertIn(f"job.{done}: done", err)
        failed = self.msgd("submit", "crawl", "url=http://10.1.2.3/")[0].strip()
        self.msgd("watch", f"job.{failed}", "--since", "0", "--until-end", code=1)

    def test_parts(self) -> None:
        """Of a mail that is split, which says nothing itself meanwhile, it is told how far its parts are together."""
        self.pause_type("mail")
        to = [{"email": f"watched-{number}@example.com"} for number in range(PART + 1)]
        job = deployment().submit("mail", to=to, subject="x", text="y")
        process = self.begin("watch", f"job.{job}")
        assert process.stderr is not None
        read_until(process, process.stderr, b"watching")
        self.msgd("types", "resume", "mail")
        all_ = f"{PART + 1:,}"
        read_until(process, process.stderr, f"job.{job}: {all_} of {all_} recipients done".encode())
        self.assertEqual(self.interrupted(process)[0], 130)

    def test_refusals(self) -> None:
        """What cannot be watched is said, with the exit code of its kind."""
        self.assertIn("a b", self.msgd("watch", "a b", code=2)[1])
        self.assertIn("rubbish", self.msgd("watch", "room.a", "--since", "rubbish", code=2)[1])
        self.assertIn("none-such", self.msgd("watch", "job.none-such", code=2)[1])
        self.msgd("watch", code=2)
        weak = deployment().token("bob", "subscribe:room.a")
        self.msgd("--token", weak, "watch", "room.b", code=4)
        self.msgd("--token", "rubbish", "watch", "room.b", code=4)
        away = ("--url", "http://127.0.0.1:1", "--token", "x")
        self.assertIn("http://127.0.0.1:1", self.msgd(*away, "watch", "room.a", "--since", "0", code=3)[1])


class PublishTest(CommandCase):
    """Events published."""

    def test_id(self) -> None:
        """The same id a second time adds nothing; no data is null."""
        for _ in range(2):
            self.assertEqual(self.msgd("publish", "once.a", "said", "--id", "7")[0], "7\n")
        (answer,) = self.lines("publish", "once.a", "said", "17", "--json")
        process = self.begin("watch", "once.a", "--since", "0", "--json")
        assert process.stdout is not None
        events = [json.loads(line) for line in read_until(process, process.stdout, b'"data":17').splitlines()]
        self.assertEqual(events[1]["id"], answer["id"])
        self.assertEqual([(event["id"] == "7", event["data"]) for event in events], [(True, None), (False, 17)])

    def test_refusals(self) -> None:
        """A topic that is none, one that is not ours to write to, and data over the limit."""
        self.assertIn("a b", self.msgd("publish", "a b", "said", code=2)[1])
        self.assertIn("job.x", self.msgd("publish", "job.x", "said", code=4)[1])
        self.msgd("publish", "room.a", code=2)
        self.assertIn("not a JSON object", self.msgd("publish", "room.a", "said", "{number: 17}", code=2)[1])
