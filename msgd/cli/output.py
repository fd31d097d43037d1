"""What is printed: data to stdout, all else to stderr. Colours and bars only where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

_STYLES = {"done": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "dim"}


def print_json(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.flush()


def say(text: str, *, style: str = "") -> None:
    """A line for the person at the terminal."""
    err.print(escape(printable(text)), style=style or None)


def printable(text: str) -> str:
    """``text`` without control characters: what a crawled page holds must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def state(name: str) -> str:
    """A job's state, coloured (rich markup)."""
    style = _STYLES.get(name)
    return f"[{style}]{name}[/{style}]" if style else escape(name)


def when(time_ms: int | str | None) -> str:
    """A time as the terminal's user reads it; the API's RFC 3339 or milliseconds since 1970."""
    if time_ms is None:
        return ""
    if isinstance(time_ms, str):
        moment = datetime.fromisoformat(time_ms)
    else:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, empty: str) -> None:
    """A table on stdout; ``empty`` is said where there is nothing to show. Cells are rich markup."""
    made = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*row)
    if made.row_count:
        out.print(made)
    else:
        say(empty)


def result_line(data: Mapping[str, Any]) -> str:
    """A crawl's result as one line: name, value, and the page it was found on."""
    name, value, url = (printable(str(data.get(field) or "")) for field in ("name", "value", "url"))
    label = f"[bold]{escape(name)}[/bold]  " if name else ""
    return f"{label}{escape(value)}  [dim]{escape(url)}[/dim]"
