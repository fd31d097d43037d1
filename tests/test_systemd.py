"""The units in systemd/: accepted by systemd itself, alike in their sandbox, and true to the daemons."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

FOLDER: Final = Path(__file__).parent.parent / "systemd"
PROGRAM: Final = "/opt/msgd/bin/twistd"
EXPOSURE: Final = 2.0
"""What systemd-analyze calls well protected, on its scale to 10; a unit without a sandbox has 9.6."""

OWN: Final = {"Description", "PartOf", "After", "Conflicts", "WantedBy", "ExecStart"}
"""What a unit has of its own."""

INSTALL: Final = "This test needs systemd-analyze. On Debian or Ubuntu: apt-get install systemd"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no running systemd for files."""
    if shutil.which("systemd-analyze") is None:
        raise AssertionError(INSTALL)
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=180)


def settings(path: Path) -> list[tuple[str, str]]:
    """The assignments of a unit file, in order."""
    lines = [line.partition("=") for line in path.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in lines]


class UnitsTest(SynchronousTestCase):
    """Every unit file there is."""

    def setUp(self) -> None:
        # The same units with the twistd of this very environment, as systemd looks whether the program exists.
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        for path in FOLDER.iterdir():
            text = path.read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
            (self.folder / path.name).write_text(text, encoding="utf-8")
        self.services = sorted(self.folder.glob("*.service"))

    def test_all_are_there(self) -> None:
        """All in one, and a unit for each daemon of the target."""
        names = {path.name for path in FOLDER.iterdir()}
        self.assertLessEqual({"msgd.target", "msgd.service", "msgd-recorder.service"}, names)

    def test_verified(self) -> None:
        """systemd accepts every line without a remark."""
        found = analyze("verify", "--man=no", *(str(path) for path in sorted(self.folder.iterdir())))
        ours = [line for line in found.stderr.splitlines() if "msgd" in line]
        self.assertEqual((ours, found.returncode), ([], 0), found.stderr)

    def test_sandbox(self) -> None:
        """No daemon is exposed more than a network daemon must be."""
        for path in self.services:
            found = analyze("security", "--offline=true", "--no-pager", str(path))
            level = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
            assert level is not None, found
            self.assertLess(float(level[1]), EXPOSURE, f"{path.name}\n{found.stdout}")

    def test_the_loop_over_sockets_may_place_its_thread(self) -> None:
        """Both calls of msgd/notifier/_wave.c that @resources holds are let in again, behind the line that shuts them
        out."""
        for path in self.services:
            filters = [value for name, value in settings(path) if name == "SystemCallFilter"]
            self.assertEqual(filters[-2:], ["~@privileged @resources", "setpriority sched_setaffinity"])

    def test_services_differ_in_their_program_only(self) -> None:
        """What is mended in the [Service] of one unit is mended in all."""
        first, *others = ([one for one in settings(path) if one[0] not in OWN] for path in self.services)
        for other in others:
            self.assertEqual(other, first)

    def test_program_is_the_daemon(self) -> None:
        """msgd-<daemon>.service runs ``twistd <daemon>``, in the foreground, under the watchdog."""
        for path in sorted(FOLDER.glob("*.service")):
            given = dict(settings(path))
            daemon = path.stem.removeprefix("msgd-")
            self.assertEqual(
                given["ExecStart"],
                f"{PROGRAM} --nodaemon --pidfile= {daemon} --config ${{CREDENTIALS_DIRECTORY}}/msgd.toml",
            )
            self.assertEqual(given["Type"], "notify")
            self.assertGreater(int(given["WatchdogSec"]), 0)

    def test_drain_is_shorter_than_the_patience_of_systemd(self) -> None:
        """A drain of 10 s (DESIGN §4.8) ends before systemd kills, with as much again for the last flush."""
        for path in self.services:
            self.assertGreaterEqual(int(dict(settings(path))["TimeoutStopSec"]), 2 * 10)
