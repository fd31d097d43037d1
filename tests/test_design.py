"""docs/design.rst tells the truth: what the code cites is there, and its numbers are those of the code."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

ROOT: Final = Path(__file__).parent.parent
DESIGN: Final = (ROOT / "docs" / "design.rst").read_text(encoding="utf-8")
FOLDERS: Final = ("msgd", "tests", "docs", "bench", "twisted")
SCALES: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


def sections() -> dict[str, str]:
    """The text of each section by its number; that of §4 ends where §4.1 begins."""
    parts = re.split(r"^(\d(?:\.\d)?) [^\n]+\n[=-]{3,}\n", DESIGN, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class DesignTest(SynchronousTestCase):
    """The document against the code."""

    def test_citations(self) -> None:
        """Every section that the code cites is there, and has the heading that stands beside its number."""
        found = sections()
        cited = 0
        for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
            text = " ".join(path.read_text(encoding="utf-8").split())
            for number, heading in re.findall(r'DESIGN §(\d(?:\.\d)?)(?:, "([^"]+)")?', text):
                cited += 1
                self.assertIn(number, found, path)
                self.assertIn(heading, " ".join(found[number].split()), path)
        self.assertGreater(cited, 20)

    def test_numbers(self) -> None:
        """Every number of §4.8 is the value of the constant beside it."""
        rows = re.findall(r"^([\d.]+) ?(\w*) +``(msgd[\w.]+)\.(\w+)``", DESIGN, re.MULTILINE)
        self.assertGreater(len(rows), 30)
        for value, unit, module, name in rows:
            number = float(value) * SCALES[unit] * (1000 if name.endswith("_MS") else 1)
            self.assertEqual(getattr(import_module(module), name), number, f"{module}.{name}")

    def test_files(self) -> None:
        """Every file and folder that is named is there."""
        named = re.findall(r"``((?:etc|tests|msgd|bench|docs)/[\w/.]*)``", DESIGN)
        named += [f"msgd/{name}" for name in re.findall(r"``((?:broker|messages|config|services)/[\w/.]+)``", DESIGN)]
        self.assertGreater(len(named), 10)
        for name in named:
            self.assertTrue((ROOT / name).exists(), name)
