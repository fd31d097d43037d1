"""``msgd crawl`` from start to end, in pipes and on terminals."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from msgd.cli.crawl import criterion, start_url, told
from tests.cli.deployed import CommandCase, Terminal, ended, environment, read_until, state
from tests.ports import free_port
from tests.stories.site import Site, Turnstile, serve, started

PRICE = "EUR [0-9.]+"


class CrawlTest(CommandCase):
    """A crawl followed to its end."""

    def found(self, site: Site) -> set[tuple[str, str]]:
        return {(path, value) for path, value in site.results()}

    def test_results_in_a_pipe(self) -> None:
        """Results are lines on stdout, without colours; what is for people stands on stderr."""
        site = serve(self, 12)
        out, err = self.msgd("crawl", site.url, "--match", f"price={PRICE}", "--delay", "0")
        root = site.url.removesuffix("/page/0")
        wanted = {f"price  {value}  {root}{path}" for path, value in site.results()}
        self.assertEqual(set(out.splitlines()), wanted)
        self.assertEqual(len(out.splitlines()), 24)
        self.assertRegex(err, r"^job \w+\ndone: 12 pages, 24 results in [\d.]+ s\n$")

    def test_json_and_csv(self) -> None:
        """--json prints objects; --csv keeps the same results as a table, over what was there before."""
        site = serve(self, 3)
        file = Path(self.mktemp()).absolute()
        file.write_text("old\n" * 100)
        out, err = self.msgd(
            "crawl", site.url, "--css", "price=b::text", "--text", "home", "--delay", "0", "--json", "--csv", str(file),
            code=2,
        )  # fmt: skip
        self.assertIn("::text", err)
        self.assertEqual(file.read_text(), "old\n" * 100, "a crawl that was refused leaves the file as it is")
        out, err = self.msgd("crawl", site.url, "--css", "price=b", "--delay", "0", "--json", "--csv", str(file))
        printed = [json.loads(line) for line in out.splitlines()]
        self.assertEqual({one["value"] for one in printed}, {value for _, value in site.results()})
        kept = list(csv.DictReader(io.StringIO(file.read_text(), newline="")))
        self.assertEqual([(row["value"], row["url"], row["seq"]) for row in kept],
                         [(one["value"], one["url"], str(one["seq"])) for one in printed])  # fmt: skip
        self.assertIn(str(file), err)

    def test_attributes(self) -> None:
        """CSS with ::attr(), XPath and plain words find what they should."""
        site = serve(self, 2)
        out, _ = self.msgd(
            "crawl", site.url, "--css", "link=li a::attr(href)", "--xpath", "title=//title", "--text", "HOME",
            "--delay", "0", "--json",
        )  # fmt: skip
        found = {(one.get("name"), one["value"]) for one in map(json.loads, out.splitlines())}
        self.assertLessEqual({("link", "/page/1"), ("title", "Page 0"), ("title", "Page 1")}, found)
        self.assertTrue(any(value == "home" for _, value in found), found)

    def test_limits(self) -> None:
        """A crawl that its limit has stopped says so; a page that is missing is told, and is no failure."""
        site = serve(self, 40)
        _, err = self.msgd("crawl", site.url, "--max-pages", "5", "--delay", "0")
        self.assertRegex(err, r"done: 5 pages, 0 results in .* it stopped at the most pages it may take")
        _, err = self.msgd("crawl", site.url.replace("/page/0", "/page/99"), "--delay", "0", code=1)
        self.assertIn("404", err)

    def test_failed(self) -> None:
        """A crawl of a network that may not be reached is a failed job: exit code 1, with the reason."""
        _, err = self.msgd("crawl", "http://10.1.2.3/", code=1)
        self.assertRegex(err, "failed: .*10.1.2.3")

    def test_detach(self) -> None:
        """--detach prints the job's id and nothing else."""
        out, err = self.msgd("crawl", serve(self, 2).url.removeprefix("http://"), "--delay", "0", "--detach")
        self.assertEqual((ended(out.strip())["state"], err), ("done", ""))

    def test_wrong_input(self) -> None:
        """What the server refuses names the field; what the command can see it refuses itself."""
        site = "http://127.0.0.1:1/"
        for arguments, words in (
            ((site, "--match", "("), "params.match[0]"),
            ((site, "--xpath", "//["), "xpath"),
            ((site, "--css", "a["), "css"),
            (("ftp://x/",), "ftp://x/"),
            ((site, "--delay", "soon"), "--delay"),
            ((site, "--max-pages", "0"), "--max-pages"),
            ((site, "--csv", "/no/such/folder/file.csv"), "/no/such/folder/file.csv cannot be written"),
            ((), "URL"),
        ):
            out, err = self.msgd("crawl", *arguments, code=2)
            self.assertIn(words, err)
            self.assertEqual(out, "")

    def test_interrupt(self) -> None:
        """Ctrl-C leaves at once with 130 and says how to go on; the crawl goes on without us."""
        site = started(self, Turnstile(6))
        site.admit(2)
        process = self.begin("crawl", site.url, "--match", PRICE, "--delay", "0", "--concurrency", "1")
        assert process.stdout is not None
        read_until(process, process.stdout, b"EUR 0.20")
        code, _, err = self.interrupted(process)
        self.assertEqual(code, 130)
        (job,) = set(re.findall(r"msgd jobs cancel (\w+)", err))
        self.assertIn(f"msgd watch job.{job}", err)
        self.assertIn(f"msgd jobs results {job}", err)
        self.assertEqual(state(job, "running", "done")["state"], "running")
        site.admit(100)
        self.assertEqual(ended(job)["result"]["results"], 12)


class AddressTest(CommandCase):
    """What is typed for the address, and addresses where nobody is."""

    def test_no_address(self) -> None:
        """What is no address is refused at once, whether or not there is a server to ask."""
        nobody = environment(MSGD_URL="http://127.0.0.1:1", MSGD_TOKEN="x")
        for text in ("notaurl", "ftp://example.com/", "http://", "https://user:word@example.com/", "a b.example"):
            out, err = self.msgd("crawl", text, code=2, config=False, env=nobody)
            self.assertIn("is no address of a page", err, text)
            self.assertEqual(out, "")

    def test_scheme(self) -> None:
        """The scheme may be left out, of a host of this network too where it cannot be a slip."""
        for text in ("example.com", "localhost", "intranet:8000/x", "[::1]/"):
            self.assertEqual(start_url(text), f"http://{text}")
        self.assertEqual(start_url("http://intranet/"), "http://intranet/")

    def test_refused(self) -> None:
        """Where nobody listens the reason is told with the first try, and after three it is over."""
        url = f"http://127.0.0.1:{free_port()}/"
        _, err = self.msgd("crawl", url, code=1)
        why = f"{url} cannot be reached: connection refused"
        self.assertRegex(
            err,
            rf"^job \w+\n{why}; trying again in \d s, Ctrl-C stops waiting \(attempt 2\)\n"
            rf"{why}; trying again in \d s, Ctrl-C stops waiting \(attempt 3\)\nfailed: {why}, 3 times in a row\n$",
        )


class TerminalTest(CommandCase):
    """What somebody sees who looks."""

    def test_bar(self) -> None:
        """On a terminal the results come above a bar, which goes away at the end; every line once."""
        site = started(self, Turnstile(9))
        site.admit(4)
        terminal = Terminal(self, ("crawl", site.url, "--match", f"p={PRICE}", "--delay", "0", "--concurrency", "1"))
        # rich draws what is done, what there is, the figures, and the time.
        bar = re.compile(r"━.*4/9.*results 8.*0:00:\d\d")
        terminal.see(lambda screen: bool(bar.search(screen)), "the bar at four of nine pages")
        site.admit(100)
        self.assertEqual(terminal.end(), 0)
        for _, value in site.results():
            self.assertEqual(terminal.screen.count(f"{value}  "), 1, value)
        self.assertNotIn("━", terminal.screen.rpartition("done: ")[2])
        self.assertIn("\x1b[?25h", terminal.screen, "the cursor is shown again")
        self.assertIn("\x1b[32mdone: 9 pages", terminal.screen, "in green")

    def test_no_color(self) -> None:
        """NO_COLOR is heeded."""
        terminal = Terminal(self, ("crawl", serve(self, 2).url, "--match", PRICE, "--delay", "0"), NO_COLOR="1")
        self.assertEqual(terminal.end(), 0)
        self.assertNotRegex(terminal.screen, r"\x1b\[[0-9;]*3[0-9]m")
        self.assertIn("done: 2 pages", terminal.screen)

    def test_narrow(self) -> None:
        """On a narrow terminal the bar stays on one line."""
        site = started(self, Turnstile(9))
        site.admit(4)
        terminal = Terminal(self, ("crawl", site.url, "--delay", "0", "--concurrency", "1"), columns=44)
        terminal.see(lambda screen: "4/9" in screen, "the bar")
        site.admit(100)
        self.assertEqual(terminal.end(), 0)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.screen)
        bars = [line for line in re.split(r"[\r\n]+", text) if "━" in line]
        self.assertTrue(bars)
        self.assertLessEqual(max(map(len, bars)), 44)

    def test_file(self) -> None:
        """stdout into a file while somebody looks at stderr: the file gets the results and nothing of the bar."""
        site = serve(self, 5)
        file = Path(self.mktemp())
        with file.open("wb") as stdout:
            terminal = Terminal(self, ("crawl", site.url, "--match", PRICE, "--delay", "0"), stdout=stdout)
        self.assertEqual(terminal.end(), 0)
        self.assertEqual(len(file.read_text().splitlines()), 10)
        self.assertNotIn("\x1b", file.read_text())
        self.assertIn("━", terminal.screen)
        self.assertNotIn("EUR", terminal.screen)

    def test_hostile_page(self) -> None:
        """What a page holds cannot steer the terminal."""
        title = "\x1b]0;owned\x07 \x1b[31m[red]x[/red] \u202e"

        class Hostile(Site):
            def body(self, path: str) -> bytes | None:
                return f"<!doctype html><meta charset=utf-8><p><b>{title}</b>".encode() if path == "/page/0" else None

        site = started(self, Hostile(1))
        terminal = Terminal(self, ("crawl", site.url, "--css", "b", "--delay", "0"))
        self.assertEqual(terminal.end(), 0)
        for steering in ("\x1b]0;", "\x07", "\u202e", "\x1b[31mx"):
            self.assertNotIn(steering, terminal.screen)
        self.assertIn("[red]x[/red]", terminal.screen)


class WordsTest(SynchronousTestCase):
    """The pure parts."""

    def test_criterion(self) -> None:
        """[NAME=]EXPRESSION, with ::attr() on CSS selectors alone."""
        for kind, text, entry in (
            ("regex", "a=b", {"name": "a", "regex": "b"}),
            ("regex", "=b", {"regex": "=b"}),
            ("regex", "9=b", {"regex": "9=b"}),
            ("xpath", "//a[@b='c']", {"xpath": "//a[@b='c']"}),
            ("xpath", "n=//a[@b='c']", {"name": "n", "xpath": "//a[@b='c']"}),
            ("css", "n=a[href]::attr(href)", {"name": "n", "css": "a[href]", "attr": "href"}),
            ("regex", "x::attr(y)", {"regex": "x::attr(y)"}),
            ("text", "two words", {"text": "two words"}),
        ):
            self.assertEqual(criterion(kind, text), entry)

    def test_told(self) -> None:
        """One of a kind is told as one; what there is none of is left out, but for pages and results."""
        self.assertEqual(told({"pages": 1, "results": 0, "errors": 0, "seconds": 0.4}), "1 page, 0 results in 0.4 s")
        self.assertEqual(
            told({"pages": 1200, "results": 1, "errors": 2, "redirects": 1, "seconds": 9.0, "ended": "max_seconds"}),
            "1,200 pages, 2 errors, 1 result, 1 redirect in 9.0 s; it stopped at the most seconds it may take",
        )
