"""README.rst tells the truth: its commands exist, and its worker works."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Final

from click import Context, Group
from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from msgd.cli.main import command
from msgd.work import FunctionWorker

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.rst").read_text(encoding="utf-8")
WORKER_LINES: Final = 20
"""How long a worker may be, blank lines aside: the promise of CHANGES.rst."""


def blocks() -> list[str]:
    """The literal blocks, without their indentation."""
    found = re.findall(r"::\n\n((?:(?: {4}.*)?\n)+)", README)
    return [textwrap.dedent(block).strip("\n") for block in found]


class ReadmeTest(SynchronousTestCase):
    """Each kind of statement that can be checked without a server."""

    def test_make_targets(self) -> None:
        """Every ``make X`` is a target of the Makefile."""
        named = set(re.findall(r"(?:``|^    )make ([a-z]+)", README, re.MULTILINE))
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        self.assertLessEqual({"demo", "test", "unit"}, named)
        self.assertLessEqual(named, targets)

    def test_commands(self) -> None:
        """Every ``msgd X`` is a command, and each of its options one that it has."""
        lines = re.findall(r"(?:``|^    )msgd ([a-z]+)( [^`\n]*)?", README, re.MULTILINE)
        self.assertGreater(len(lines), 5)
        for name, rest in lines:
            one = command.get_command(Context(command), name)
            assert one is not None, name
            if not isinstance(one, Group):
                known = {option for parameter in one.params for option in parameter.opts}
                self.assertLessEqual(set(re.findall(r"--[a-z-]+", rest)), known, name)

    def test_files(self) -> None:
        """Every file and folder of the tree that is named is there."""
        named = re.findall(r"(?:``|^    |<)((?:etc|systemd|tests|msgd|docs)/[\w/.]*)", README, re.MULTILINE)
        self.assertGreater(len(named), 10)
        for name in named:
            self.assertTrue((ROOT / name).exists(), name)

    def test_worker(self) -> None:
        """The worker is Python of at most 20 lines, and makes a daemon with a worker of its type."""
        (source,) = (block for block in blocks() if "app.application(" in block)
        self.assertLessEqual(len([line for line in source.splitlines() if line.strip()]), WORKER_LINES)
        names: dict[str, object] = {"__name__": "shout"}
        exec(compile(source, "shout.py", "exec", dont_inherit=True), names)
        worker, params = names["shout"], names["Shout"]
        assert isinstance(worker, FunctionWorker)
        assert isinstance(params, type)
        assert issubclass(params, Struct)
        self.assertEqual(worker.type.name, "shout")
        self.assertEqual(worker.type.decode(b'{"text": "hello"}'), params(text="hello"))
