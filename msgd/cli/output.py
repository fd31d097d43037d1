"""What is printed: data to stdout, all else to stderr. Colours and bars only where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

GUTTER: Final = "  "
_STYLES: Final = {
    "done": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "waiting": "cyan",
    "queued": "dim",
}


def print_json(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.flush()


def say(text: str, *, style: str = "") -> None:
    """A line for the person at the terminal."""
    above(plain(text), style=style)


def above(shown: str | Text, *, style: str = "") -> None:
    """A line on stderr, above the bar if there is one; the terminal folds it, so that it can be copied whole."""
    err.print(shown, style=style or None, soft_wrap=True)


def printable(text: str) -> str:
    """``text`` without control characters: what a crawled page holds must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def plain(text: str) -> str:
    """Any text as rich markup that shows it, and nothing else."""
    return escape(printable(text))


def value(given: Any) -> str:
    """Any JSON value as one line of text."""
    return printable(given if isinstance(given, str) else msgspec.json.encode(given).decode())


def state(name: str) -> str:
    """A job's state, coloured (rich markup)."""
    style = _STYLES.get(name)
    return f"[{style}]{name}[/{style}]" if style else plain(name)


def job_state(job: Mapping[str, Any]) -> str:
    """The state of a job; one that waits for its next try is queued for msgd only."""
    return "[yellow]retrying[/yellow]" if job["state"] == "queued" and job["attempt"] else state(job["state"])


def next_try(job: Mapping[str, Any]) -> str:
    """``next try at …``, of a job that waits for it."""
    waits = job["state"] == "queued" and job["attempt"] and job["not_before"]
    return f"next try at {when(job['not_before'])}" if waits else ""


def when(time: str) -> str:
    """The API's RFC 3339 as the terminal's user reads it."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def briefly(time: str) -> str:
    """The same where a terminal has little room: the time of a moment of today, else its day."""
    moment, now = datetime.fromisoformat(time).astimezone(), datetime.now(UTC).astimezone()
    if not out.is_terminal:
        return when(time)
    return moment.strftime("%H:%M:%S" if moment.date() == now.date() else "%Y-%m-%d")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout. Cells are rich markup. The last column is cut at the edge of a terminal, and in no file."""
    cells = [[Text.from_markup(cell, emoji=False) for cell in row] for row in rows]
    titles = [Text(title, style="bold") for title in head]
    widths = [max(cell_len(row[at].plain) for row in (titles, *cells)) for at in range(len(head) - 1)]
    for row in (titles, *cells):
        line = Text()
        for cell, width in zip(row, widths, strict=False):
            line.append_text(cell).append(" " * (width - cell_len(cell.plain)) + GUTTER)
        line.append_text(row[-1])
        line.rstrip()
        if out.is_terminal:
            line.truncate(out.width, overflow="ellipsis")
        out.print(line)


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values on stdout, one a line. Values are rich markup."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, shown in rows:
        out.print(f"[bold]{name:<{width}}[/bold]{GUTTER}{shown}")


def result_line(data: Mapping[str, Any]) -> str:
    """A crawl's result as one line: name, value, and the page it was found on."""
    name, found, url = (plain(str(data.get(field) or "")) for field in ("name", "value", "url"))
    label = f"[bold]{name}[/bold]{GUTTER}" if name else ""
    return f"{label}{found}{GUTTER}[dim]{url}[/dim]"


def known_by_key(answer: Mapping[str, Any], type_: str, key: str) -> str:
    """What to say of an answer that has the job of another type."""
    return (
        f"the key {key!r} stands for job {answer['id']} already, which is of type {answer['type']}: "
        f"no {type_} job was made; give this one another key"
    )
