"""What is written in reStructuredText can be read as that: a page that shows it shows no errors in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from docutils.core import publish_doctree
from twisted.trial.unittest import SynchronousTestCase

ROOT: Final = Path(__file__).parent.parent


class DocsTest(SynchronousTestCase):
    """Every document, as docutils takes it."""

    def test_warnings(self) -> None:
        """Nothing is complained of: no broken table, no heading of a merge."""
        files = [*sorted(ROOT.glob("*.rst")), *sorted((ROOT / "docs").glob("*.rst"))]
        self.assertGreater(len(files), 5)
        for file in files:
            told = io.StringIO()
            publish_doctree(
                file.read_text(encoding="utf-8"),
                source_path=str(file.relative_to(ROOT)),
                settings_overrides={"report_level": 2, "warning_stream": told, "syntax_highlight": "none"},
            )
            self.assertEqual(told.getvalue(), "", file)
