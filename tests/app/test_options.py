"""What ``twistd DAEMON`` is told, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from msgd.app import daemons
from msgd.app.daemons import Daemon
from msgd.app.options import Options

ROOT = Path(__file__).parents[2]
MANY = '[broker]\nurl = "amqp://localhost/"\n[database]\nurl = "postgresql://localhost/msgd"\n'


class OptionsTest(SynchronousTestCase):
    """The command line of a daemon, parsed."""

    def file(self, text: str) -> str:
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return str(path)

    def parsed(self, daemon: Daemon, text: str) -> Options:
        options = daemon.Options()
        options.parseOptions(["--config", self.file(text)])
        return options

    def refused(self, daemon: Daemon, text: str) -> str:
        return str(self.assertRaises(UsageError, self.parsed, daemon, text))

    def test_config(self) -> None:
        """--config and -c name a file, MSGD_CONFIG does so where they do not."""
        file = self.file('[state]\ndir = "/srv/msgd"')
        for arguments in (["--config", file], ["-c", file]):
            options = daemons.msgd.Options()
            options.parseOptions(arguments)
            self.assertEqual(options.settings.state.dir, "/srv/msgd")
        self.patch(os, "environ", {**os.environ, "MSGD_CONFIG": file})
        options = daemons.msgd.Options()
        options.parseOptions([])
        self.assertEqual(options.settings.state.dir, "/srv/msgd")

    def test_wrong_config(self) -> None:
        """A wrong configuration is a usage error that names file and line, or the file that is not there."""
        said = self.refused(daemons.msgd, "\n[notifier]\nlisen = 1")
        self.assertRegex(said, r"^/.*:3: .*'lisen'.*'listen'")
        options = daemons.msgd.Options()
        error = self.assertRaises(UsageError, options.parseOptions, ["--config", "/no/such/file"])
        self.assertIn("/no/such/file", str(error))

    def test_many_processes(self) -> None:
        """A lone daemon takes a broker and a database that others reach too, and neither of the embedded ones."""
        for daemon in (daemons.recorder, daemons.notifier, daemons.crawler, daemons.mailer, daemons.messenger):
            self.assertEqual(self.parsed(daemon, MANY).settings.broker.url, ("amqp://localhost/",))
            said = self.refused(daemon, "")
            self.assertIn("embedded broker", said)
            self.assertIn("twistd -n msgd", said)
            said = self.refused(daemon, '[broker]\nurl = "amqp://localhost/"')
            self.assertIn("postgresql://", said)
        self.assertTrue(self.parsed(daemons.msgd, "").settings.broker.embedded)
        self.assertFalse(self.parsed(daemons.msgd, '[broker]\nurl = "amqp://localhost/"').settings.broker.embedded)

    def test_as_twistd_says_it(self) -> None:
        """twistd prints the sentence, without a traceback, and does not leave with 0; nothing is made."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "crawler"],
            cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": os.defpath}, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        self.assertIn("this daemon alone cannot use the embedded broker", said)
        self.assertNotIn("Traceback", said)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(list(folder.iterdir()), [])
