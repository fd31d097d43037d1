"""A job's results as a file: JSON, NDJSON or CSV, written page by page.

CSV (RFC 4180) is for spreadsheets, which run what looks like a formula: text that begins like one gets an apostrophe
before it (OWASP, "CSV injection"). Nested values stand as JSON in their cell. Columns are the results' keys in the
order in which they first appear, then ``seq`` and ``time``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from msgd.errors import InvalidInput
from msgd.jobs.interface import Job
from msgd.journal.interface import Journal
from msgd.messages import json
from msgd.messages.events import Recorded
from msgd.messages.topics import job_topic
from msgd.messages.wire import format_time

PAGE: Final = 500
"""Events read from the journal at once."""

COLUMNS: Final = 500
"""Columns of a CSV: spreadsheets and people give up long before; keys beyond are left to JSON."""

CELL_CHARS: Final = 32_767
"""What a spreadsheet's cell holds; more would spill into the next row."""

BOM: Final = "\ufeff".encode()
"""Spreadsheets take a CSV without it for Latin-1; other programs trip over it. So it is asked for (``bom=1``)."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?")
_FORMULA: Final = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")


def record(recorded: Recorded, part: str = "") -> dict[str, Any]:
    """A result: the event's data with ``seq`` and ``time`` added (ours win over keys of the same name).

    ``part``: the id of the part of a split job whose result it is, added as ``part``: ``seq`` counts within it.
    """
    data = msgspec.json.decode(recorded.event.data)
    fields = data if isinstance(data, dict) else {"value": data}
    whose = {"part": part} if part else {}
    return {**fields, **whose, "seq": recorded.seq, "time": format_time(recorded.event.time_ms)}


class Writer(Protocol):
    """One form of the file."""

    content_type: str
    suffix: str

    def head(self) -> bytes: ...

    def rows(self, records: Iterable[dict[str, Any]]) -> bytes: ...

    def tail(self) -> bytes: ...


class NdjsonWriter:
    """A JSON object a line."""

    content_type = "application/x-ndjson"
    suffix = "ndjson"

    def head(self) -> bytes:
        return b""

    def rows(self, records: Iterable[dict[str, Any]]) -> bytes:
        return b"".join(json.encode(one) + b"\n" for one in records)

    def tail(self) -> bytes:
        return b""


class JsonWriter:
    """One array."""

    content_type = "application/json"
    suffix = "json"

    def __init__(self) -> None:
        self._first = True

    def head(self) -> bytes:
        return b"["

    def rows(self, records: Iterable[dict[str, Any]]) -> bytes:
        parts = []
        for one in records:
            parts.append((b"\n" if self._first else b",\n") + json.encode(one))
            self._first = False
        return b"".join(parts)

    def tail(self) -> bytes:
        return b"\n]\n"


class CsvWriter:
    """A table with a head line."""

    content_type = "text/csv; charset=utf-8; header=present"
    suffix = "csv"

    def __init__(self, columns: Sequence[str], *, bom: bool = False) -> None:
        self._columns = columns
        self._bom = bom

    def head(self) -> bytes:
        return (BOM if self._bom else b"") + self._lines([[cell(name) for name in self._columns]])

    def rows(self, records: Iterable[dict[str, Any]]) -> bytes:
        return self._lines([[cell(one.get(name)) for name in self._columns] for one in records])

    def tail(self) -> bytes:
        return b""

    def _lines(self, rows: Iterable[Sequence[str]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue().encode("utf-8", "replace")


def cell(value: Any) -> str:
    """A value as a cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return json.encode(value).decode()
    text = value if isinstance(value, str) else json.encode(value).decode()
    text = text.replace("\0", "\ufffd")[: CELL_CHARS - 1]
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def add_columns(columns: dict[str, None], records: Iterable[dict[str, Any]]) -> None:
    """Add the keys of ``records`` that are new, in their order; ``seq`` and ``time`` are put last by the caller."""
    for one in records:
        for name in one:
            if name not in columns and len(columns) < COLUMNS:
                columns[name] = None


class Results:
    """The results of one run of a job and of its parts, as far as they are stored now."""

    def __init__(self, journal: Journal, jobs: Sequence[Job], types: Sequence[str], upto: int) -> None:
        """``jobs``: the job, and the parts into which it was split."""
        self._journal = journal
        self._runs = {job_topic(job.id): job.run for job in jobs}
        self._parts = {job_topic(job.id): job.id for job in jobs[1:]}
        self._types = frozenset(types)
        self._upto = upto

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """The results, page by page, in order."""
        after = 0
        while True:
            page = await self._journal.read(list(self._runs), after=after, limit=PAGE, upto=self._upto)
            found = [
                record(one, self._parts.get(one.event.topic, ""))
                for one in page.events
                if one.event.type in self._types and one.event.run in (self._runs[one.event.topic], None)
            ]
            if found:
                yield found
            if not page.more:
                return
            after = page.upto

    async def columns(self) -> list[str]:
        """All keys there are: read once through, so that the file has a head line and memory stays flat."""
        columns: dict[str, None] = {}
        async for records in self.pages():
            add_columns(columns, records)
        return [name for name in columns if name not in ("seq", "time")] + ["seq", "time"]

    async def writer(self, form: str, *, bom: bool = False) -> Writer:
        """The writer of a form. Raises InvalidInput for one that there is not."""
        if form == "json":
            return JsonWriter()
        if form == "ndjson":
            return NdjsonWriter()
        if form == "csv":
            return CsvWriter(await self.columns(), bom=bom)
        raise InvalidInput(f"format={form[:40]!r} must be json, ndjson or csv", where="format")

    async def chunks(self, writer: Writer) -> AsyncIterator[bytes]:
        """The file, piece by piece."""
        yield writer.head()
        async for records in self.pages():
            yield writer.rows(records)
        yield writer.tail()
