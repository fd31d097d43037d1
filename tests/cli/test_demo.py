"""``msgd demo``: everything in one process, on the sample site."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from twisted.internet.task import Clock

from msgd.cli.sample_site import SampleSite
from tests.cli.deployed import MODULE, CommandCase, environment, read_until
from tests.ports import free_port
from tests.stories.deployment import PATIENCE_S
from tests.stories.site import serve


class DemoTest(CommandCase):
    """Each in a working folder of its own: the demo keeps its data in ``var/demo``."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def demo(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *MODULE, "demo", *arguments],
            cwd=self.folder, env=environment(PYTHONUNBUFFERED="1", **more),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def check_complete(self, process: subprocess.Popen[bytes]) -> str:
        """Every price and address of the sample site is printed once, and nothing else; returns stderr."""
        out, err = (stream.decode() for stream in process.communicate(timeout=PATIENCE_S))
        self.assertEqual(process.returncode, 0, err)
        self.assertNotIn("Traceback", err)
        site = SampleSite(Clock())
        wanted = Counter([("price", *one) for one in site.prices] + [("email", *one) for one in site.emails])
        printed: Counter[tuple[str, str, str]] = Counter()
        for line in out.splitlines():
            name, value, url = line.split("  ")
            parts = urlsplit(url)
            printed[name, parts.path + (f"?{parts.query}" if parts.query else ""), value] += 1
        self.assertEqual(printed, wanted)
        return err

    def test_at_once_and_again(self) -> None:
        """Two at the same time in the same folder, then a third on the data of the first: all complete, all tidy."""
        both = [self.demo("--once"), self.demo("--once")]
        said = [self.check_complete(process) for process in both]
        (other,) = re.findall(r"keeps its data in (\S+)", "".join(said))
        self.assertFalse(os.path.exists(other), "a folder of its own goes with the demo")
        self.assertNotIn("in use", self.check_complete(self.demo("--once")))

    def test_dashboard(self) -> None:
        """After the crawl it stays up with the dashboard's address, which can be chosen, and a token until Ctrl-C;
        that is no failure."""
        site, port = serve(self, 4), free_port()
        process = self.demo(
            site.url, "--match", "price=EUR [0-9.]+", MSGD_NOTIFIER_LISTEN=f"tcp:{port}:interface=127.0.0.1"
        )
        assert process.stderr is not None
        said = read_until(process, process.stderr, b"Ctrl-C").decode()
        self.assertIn(f"http://127.0.0.1:{port}/#token=", said)
        (url, token) = re.findall(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)", said)[0]
        with urllib.request.urlopen(url) as page:
            self.assertIn(b"<html", page.read())
        request = urllib.request.Request(f"{url}/api/jobs", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            self.assertIn(b'"state":"done"', answer.read())
        exported = dict(re.findall(r"(MSGD_\w+)=(\S+)", re.findall(r"^export (.*)$", said, re.MULTILINE)[0]))
        listed, _ = self.msgd("jobs", "list", "--json", config=False, env=environment(**exported))
        self.assertIn('"state":"done"', listed)
        code, out, _ = self.interrupted(process)
        self.assertEqual((code, len(out.splitlines())), (0, 8))

    def test_interrupt(self) -> None:
        """Ctrl-C in the middle of the crawl stops everything in order: 130."""
        process = self.demo()
        assert process.stdout is not None
        read_until(process, process.stdout, b"price")
        self.assertEqual(self.interrupted(process, by=signal.SIGINT)[0], 130)

    def test_wrong_input(self) -> None:
        """A wrong expression is refused as by ``msgd crawl``, and everything is stopped."""
        process = self.demo("--once", "--match", "(")
        _, err = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 2)
        self.assertIn(b"params.match[0]", err)
        self.assertNotIn(b"Traceback", err)
