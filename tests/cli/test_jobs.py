"""``msgd submit`` and ``msgd jobs``."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from msgd.cli.jobs import _about, _shown
from msgd.cli.output import job_state, next_try, when
from tests.cli.deployed import CommandCase, Terminal, ended, state
from tests.stories.site import Turnstile, serve, started

MAIL = b'{"to": [{"email": "a@b.example"}], "subject": "x", "text": "y"}'
NOBODY = "http://127.0.0.1:1/"


class SubmitTest(CommandCase):
    """Jobs of any type."""

    def test_no_token(self) -> None:
        """Who has none is told how to give one at a terminal; no request is made for that."""
        for command in (("jobs", "list"), ("watch", "room.a"), ("submit", "crawl", f"url={NOBODY}")):
            out, err = self.msgd("--url", NOBODY, *command, code=4)
            self.assertEqual(out, "")
            self.assertIn("give a token with --token or MSGD_TOKEN", err)
            self.assertNotIn("Bearer", err)

    def test_pairs(self) -> None:
        """KEY=VALUE pairs become params, JSON where they read as JSON; the id is all that is printed."""
        out, err = self.msgd(
            "submit", "crawl", f"url={NOBODY}", "max_pages=3", 'match=[{"regex":"a=b"}]', "--delay=900"
        )
        self.assertEqual(err, "")
        (job,) = self.lines("jobs", "show", out.strip(), "--json")
        self.assertEqual(job["params"], {"url": NOBODY, "max_pages": 3, "match": [{"regex": "a=b"}]})
        self.assertEqual((job["state"], job["id"]), ("queued", out.strip()))
        self.assertGreater(job["not_before"], job["created"])
        self.msgd("jobs", "cancel", job["id"])

    def test_file_and_stdin(self) -> None:
        """Params come from a file or from standard input; pairs are laid over them."""
        file = Path(self.mktemp()).absolute()
        file.write_text(json.dumps({"url": NOBODY, "depth": 1}))
        ids = [
            self.msgd("submit", "crawl", "--json", str(file), "depth=2", "--delay", "900")[0].strip(),
            self.msgd("submit", "crawl", "--json", "-", "--delay", "900", given=file.read_bytes())[0].strip(),
        ]
        depths = [self.lines("jobs", "show", job, "--json")[0]["params"]["depth"] for job in ids]
        self.assertEqual(depths, [2, 1])
        for job in ids:
            self.msgd("jobs", "cancel", job)

    def test_key_and_priority(self) -> None:
        """The same key gives the same job; --high goes before others."""
        first, second = (
            self.msgd("submit", "crawl", f"url={NOBODY}", "--key", "once", "--delay", "900", "--high")[0]
            for _ in range(2)
        )
        self.assertEqual(first, second)
        out, err = self.msgd("submit", "mail", "--json", "-", "--key", "once", given=MAIL)
        self.assertEqual(out, first)
        self.assertIn(
            f"job {first.strip()} already, which is of type crawl: no mail job was made", err.replace("\n", " ")
        )
        given = ("mail", "--to", "a@b.example", "--subject", "x", "--html", "-", "--key", "once")
        self.assertIn("which is of type crawl", self.msgd(*given, given=b"x", code=2)[1])
        self.assertEqual(self.lines("jobs", "show", first.strip(), "--json")[0]["priority"], "high")
        self.msgd("jobs", "cancel", first.strip())

    def test_wait(self) -> None:
        """--wait prints the job's events to its end, as lines of JSON; the exit code tells how it ended."""
        site = serve(self, 2)
        out, err = self.msgd("submit", "crawl", f"url={site.url}", "delay=0", "--wait")
        types = [json.loads(line)["type"] for line in out.splitlines()]
        self.assertEqual((types[0], types[-1]), ("started", "done"))
        self.assertRegex(err, r"^job \w+\n$")
        out, err = self.msgd("submit", "crawl", "url=http://10.1.2.3/", "--wait", code=1)
        self.assertEqual(json.loads(out.splitlines()[-1])["type"], "failed")
        self.assertIn("10.1.2.3", err)

    def test_wrong_input(self) -> None:
        """Each mistake is named."""
        list_file = Path(self.mktemp()).absolute()
        list_file.write_text("[1]")
        for arguments, words in (
            (("nope",), "nope"),
            (("crawl",), "url"),
            (("crawl", "url"), "KEY=VALUE"),
            (("crawl", "--json", "/no/such/file"), "/no/such/file: No such file"),
            (("crawl", "--json", str(list_file)), "not a JSON object"),
            (("crawl", "--delay", "-1"), "--delay"),
            ((), "TYPE"),
        ):
            self.assertIn(words, self.msgd("submit", *arguments, code=2)[1])


class JobsTest(CommandCase):
    """Jobs looked at, ended, begun again, taken home."""

    def crawled(self, pages: int = 3) -> str:
        site = serve(self, pages)
        out, _ = self.msgd("crawl", site.url, "--match", "price=EUR [0-9.]+", "--delay", "0", "--detach")
        return str(ended(out.strip())["id"])

    def test_list(self) -> None:
        """The newest first, with final figures; filters; an empty list is told on stderr."""
        job = self.crawled(7)
        out, _ = self.msgd("jobs", "list", "--limit", "1")
        head, row = out.splitlines()
        self.assertEqual(head.split(), ["ID", "TYPE", "STATE", "CREATED", "PROGRESS", "ABOUT"])
        self.assertRegex(
            row,
            rf"^{job}  crawl +done +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  7 of 7 +http://127.0.0.1:\d+/page/0  match=price",
        )
        self.assertEqual(row.index("crawl"), head.index("TYPE"))
        self.assertEqual(row.index("7 of 7"), head.index("PROGRESS"))
        self.assertEqual(self.lines("jobs", "list", "--json", "--limit", "1")[0]["id"], job)
        self.assertNotIn(job, self.msgd("jobs", "list", "--state", "failed")[0])
        self.assertEqual(self.msgd("jobs", "list", "--type", "nope"), ("", "no jobs like that\n"))
        self.msgd("jobs", "list", "--state", "asleep", code=2)

    def test_list_of_several(self) -> None:
        """Of several criteria or recipients the first are named, and the others counted."""
        match = [{"text": text} for text in ("one", "two", "three", "four", "five")]
        given = ("submit", "crawl", "url=http://127.0.0.1:1/", f"match={json.dumps(match)}", "--delay=900")
        job = self.msgd(*given)[0].strip()
        self.assertRegex(self.msgd("jobs", "list")[0], rf"(?m)^{job} .*/  match=one, two, three and 2 more$")
        self.msgd("jobs", "cancel", job)

    def test_retrying(self) -> None:
        """A job between two tries is shown as such, with the time of the next one; any other is not."""
        job = {
            "state": "queued", "attempt": 1, "not_before": "2030-02-03T12:00:00.000Z", "params": {},
            "error": {"code": "peer", "message": "it is away"},
        }  # fmt: skip
        at = when(str(job["not_before"]))
        self.assertEqual(job_state(job), "[yellow]retrying[/yellow]")
        self.assertEqual(next_try(job), f"next try at {at}")
        self.assertEqual(_shown("state", job), f"[yellow]retrying[/yellow], next try at {at}")
        self.assertEqual(_about(job), f"next try at {at}, after: [red]it is away[/red]")
        for change in ({"state": "running"}, {"attempt": 0}):
            self.assertEqual((next_try({**job, **change}), _about({**job, **change})), ("", "[red]it is away[/red]"))
        self.assertEqual(job_state({**job, "attempt": 0}), "[dim]queued[/dim]")

    def test_list_on_a_terminal(self) -> None:
        """A list keeps to the width of its terminal, in colours."""
        self.crawled(1)
        terminal = Terminal(self, ("jobs", "list"), columns=80)
        self.assertEqual(terminal.end(), 0)
        self.assertIn("\x1b[32mdone\x1b[0m", terminal.screen)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.screen).splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertTrue(lines[1].endswith("…"), lines[1])

    def test_show(self) -> None:
        """One field a line; failures with their reason."""
        out, _ = self.msgd("jobs", "show", self.crawled())
        self.assertRegex(out, r"(?m)^state +done$")
        self.assertRegex(out, r'(?m)^result +\{"pages":3,.*"ended":"complete"\}$')
        failed, _ = self.msgd("submit", "crawl", "url=http://10.1.2.3/")
        ended(failed.strip())
        self.assertRegex(self.msgd("jobs", "show", failed.strip())[0], r"(?m)^error +.*10\.1\.2\.3.*\([a-z-]+\)$")
        self.assertIn("none-such", self.msgd("jobs", "show", "none-such", code=2)[1])

    def test_cancel_and_retry(self) -> None:
        """A running job is cancelled; what has ended is run again; what has not is not."""
        site = started(self, Turnstile(3))
        job = self.msgd("crawl", site.url, "--delay", "0", "--detach")[0].strip()
        state(job, "running")
        self.assertIn("running", self.msgd("jobs", "retry", job, code=2)[1])
        self.assertIn(self.msgd("jobs", "cancel", job)[0], ("cancelling\n", "cancelled\n"))
        self.assertEqual(ended(job)["state"], "cancelled")
        self.assertEqual(self.msgd("jobs", "cancel", job)[0], "cancelled\n", "a second time it is so already")
        site.admit(100)
        self.assertEqual(self.msgd("jobs", "retry", job)[0], "queued\n")
        done = state(job, "done")
        self.assertEqual((done["run"], done["result"]["pages"]), (2, 3))
        for command in ("cancel", "retry", "results"):
            self.assertIn("none-such", self.msgd("jobs", command, "none-such", code=2)[1])

    def test_results(self) -> None:
        """The same results in three forms; a reader who has enough ends the command quietly."""
        job = self.crawled(40)
        lines = self.lines("jobs", "results", job)
        self.assertEqual(len(lines), 80)
        self.assertEqual(json.loads(self.msgd("jobs", "results", job, "--format", "json")[0]), lines)
        table = list(csv.DictReader(io.StringIO(self.msgd("jobs", "results", job, "--format", "csv")[0], newline="")))
        self.assertEqual([row["value"] for row in table], [line["value"] for line in lines])
        process = self.begin("jobs", "results", job)
        assert process.stdout is not None
        process.stdout.close()
        self.assertEqual(process.wait(60), 141)
        assert process.stderr is not None
        self.assertEqual(process.stderr.read(), b"")
