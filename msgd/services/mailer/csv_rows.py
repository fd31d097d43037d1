"""Recipients out of a CSV, row by row as the bytes come: it may have a million of them. Sans-IO.

RFC 4180, with what spreadsheets make of it: a byte order mark, semicolons or tabs for commas, any line break. The head
line names the columns, of which one is ``email``; ``name`` is the name, all others are variables of the templates.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from msgd.services.mailer.addresses import check_name, parse
from msgd.services.mailer.ledger import NewRow
from msgd.services.mailer.params import VARS, is_variable

ROW_CHARACTERS: Final = 100_000
"""Of one row, with all its variables."""

EMAIL: Final = "email"
NAME: Final = "name"


class CsvError(ValueError):
    """The file is no CSV of recipients; the message names the row."""


class Columns(Struct, frozen=True):
    """What the head line says."""

    names: tuple[str, ...]  # empty: a column that cannot be a variable
    delimiter: str


class CsvRows:
    """Feed it the file's bytes, and take the recipients."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._scanned = 0
        self._quoted = False
        self._columns: Columns | None = None
        self._row = 0  # rows read, without the head line

    def feed(self, data: bytes) -> Iterator[NewRow]:
        """The recipients that are complete by now. Raises CsvError."""
        yield from self._take(data, final=False)

    def end(self) -> Iterator[NewRow]:
        """The last ones. Raises CsvError, also for a file without a head line."""
        yield from self._take(b"", final=True)
        if self._columns is None:
            raise CsvError("the file is empty: a head line with the column email is wanted")

    def _take(self, data: bytes, *, final: bool) -> Iterator[NewRow]:
        try:
            self._text += self._decoder.decode(data, final)
        except UnicodeDecodeError:
            raise CsvError(f"after row {self._row} the file is not UTF-8") from None
        for line in self._lines(final=final):
            if "\0" in line:
                raise CsvError(f"after row {self._row} there is a character U+0000")
            if not line.strip():
                continue
            if self._columns is None:
                self._columns = _columns(line)
            else:
                self._row += 1
                yield self._read(line, self._columns)

    def _lines(self, *, final: bool) -> Iterator[str]:
        """The rows as they stand in the file: a line break within quotes belongs to the row."""
        begun = 0
        while True:
            end = self._line_end(final=final)
            if end is None:
                break
            yield self._text[begun:end]
            begun = self._scanned
        self._text = self._text[begun:]
        self._scanned -= begun
        if final and self._text:
            if self._quoted:
                raise CsvError(f"after row {self._row} a quotation mark is never closed")
            yield self._text
            self._text, self._scanned = "", 0
        elif len(self._text) > ROW_CHARACTERS:
            raise CsvError(f"after row {self._row} there is a row of more than {ROW_CHARACTERS} characters")

    def _line_end(self, *, final: bool) -> int | None:
        """Where the next row ends; ``_scanned`` is then behind its line break. None: it is not whole yet."""
        text = self._text
        while self._scanned < len(text):
            at = self._scanned
            character = text[at]
            if character == '"':
                self._quoted = not self._quoted
            elif character in "\r\n" and not self._quoted:
                if character == "\r" and at + 1 == len(text) and not final:
                    return None  # perhaps its line feed comes next
                self._scanned += 2 if text[at : at + 2] == "\r\n" else 1
                return at
            self._scanned = self._next_mark(at + 1)
        return None

    def _next_mark(self, at: int) -> int:
        """The next quotation mark or line break, or the end."""
        found = [place for mark in '"\r\n' if (place := self._text.find(mark, at, at + 4096)) >= 0]
        return min(found, default=min(at + 4096, len(self._text)))

    def _read(self, line: str, columns: Columns) -> NewRow:
        cells = _cells(line, columns.delimiter, self._row)
        if len(cells) > len(columns.names) and any(cell.strip() for cell in cells[len(columns.names) :]):
            return self._wrong(cells, f"the row has {len(cells)} columns, the head line {len(columns.names)}")
        cells += [""] * (len(columns.names) - len(cells))
        given = {name: cell for name, cell in zip(columns.names, cells, strict=False) if name}
        email, name = given.pop(EMAIL), given.pop(NAME, "")
        try:
            address = parse(email)
            return NewRow(self._row, email.strip(), address.key, check_name(name), given)
        except ValueError as error:
            return NewRow(self._row, email.strip()[:300], "", "", {}, str(error))

    def _wrong(self, cells: list[str], reason: str) -> NewRow:
        return NewRow(self._row, (cells[0] if cells else "")[:300], "", "", {}, reason)


def _columns(line: str) -> Columns:
    delimiter = max(",;\t", key=line.count)
    names = [cell.strip() for cell in _cells(line, delimiter, 0)]
    lowered = [name.lower() if name.lower() in (EMAIL, NAME) else name for name in names]
    if EMAIL not in lowered:
        raise CsvError(f"the head line has no column email; it has {', '.join(names)[:200]}")
    if len(lowered) > VARS:
        raise CsvError(f"the head line has {len(lowered)} columns; at most {VARS} are taken")
    known = [name if name in (EMAIL, NAME) or is_variable(name) else "" for name in lowered]
    for name in known:
        if name and known.count(name) > 1:
            raise CsvError(f"the head line has two columns {name}")
    return Columns(tuple(known), delimiter)


def _cells(line: str, delimiter: str, row: int) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise CsvError(f"row {row}: {error}") from None
    return [cell for one in rows for cell in one]
