"""What every journal does (msgd.journal.interface), whatever it stands on."""

from __future__ import annotations

from tests.contract.journal_reading import ReadingCases
from tests.contract.journal_writing import WritingCases


class JournalCases(WritingCases, ReadingCases):
    """The suite; a subclass makes the journal."""
