"""A job followed in the terminal: its results as they come, its progress as a bar, its end as the exit code."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text
from twisted.internet.defer import CancelledError, Deferred

from msgd.cli.exits import DONE, JOB_FAILED
from msgd.cli.output import above, err, out, print_json, printable, say
from msgd.client import Client, Watch
from msgd.messages.events import ENDS, PROGRESS, RETRYING

BAR_WIDTHS: Final = (8, 30)
"""The bar takes a fifth of the terminal, within these bounds."""

BESIDE: Final = 24
"""What stands on the bar's line beside the bar and the type's own figures: spinner, count, time."""


class Screen:
    """Where a job is shown: its data on stdout, and under them, if somebody looks, a bar on stderr."""

    def __init__(self) -> None:
        least, most = BAR_WIDTHS
        bar = min(most, max(least, err.width // 5))
        figures = Column(no_wrap=True, overflow="ellipsis", max_width=max(1, err.width - bar - BESIDE))
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=bar),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False, table_column=figures),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
            # rich would send stdout to the terminal even where it is a file.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._above = err.is_terminal and out.is_terminal
        self._task: TaskID = self._progress.add_task("", total=None, figures="")

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def progress(self, fields: Mapping[str, Any]) -> None:
        """``done`` and ``total`` move the bar; whatever else the type tells stands beside it."""
        total, done = fields.get("total"), fields.get("done", 0)
        figures = "  ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
            for name, value in fields.items()
            if name not in ("done", "total") and isinstance(value, (int, float, str)) and value
        )
        self._progress.update(
            self._task,
            total=total if isinstance(total, (int, float)) else None,
            completed=done if isinstance(done, (int, float)) else 0,
            figures=printable(figures),
        )

    def data(self, markup: str) -> None:
        """A line for stdout; on a terminal above the bar."""
        if self._above:
            above(markup)
        else:
            out.print(markup)

    def json(self, value: Any) -> None:
        """The same, as JSON."""
        if self._above:
            above(Text(msgspec.json.encode(value).decode()))
        else:
            print_json(value)

    def note(self, text: str) -> None:
        """A line for the person, on stderr."""
        say(text, style="yellow")


ShowEvent = Callable[[Screen, Mapping[str, Any]], None]
"""Shows a kept event of the job."""


Figures = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""What to show of the progress that a job type tells."""

Beside = Callable[[Screen], Coroutine[Any, Any, None]]
"""What is done while a job is followed, and cancelled at its end."""


async def follow(
    client: Client, job: str, show: ShowEvent, *, figures: Figures = dict, beside: Beside | None = None
) -> int:
    """Show the latest run of a job to its end; returns the exit code. Raises what Watch raises."""
    watch = Watch(client, [f"job.{job}"], since="0", jitter=random.random, on_status=lambda text: _status(screen, text))
    run = 0
    with Screen() as screen:
        other = None if beside is None else Deferred.fromCoroutine(beside(screen))
        try:
            async for message in watch:
                op = message["op"]
                if op == "state":
                    run = max(run, message["job"]["run"])
                    screen.progress(figures(message["job"].get("progress") or {}))
                elif op == "gap":
                    screen.note(f"earlier events are not kept any more ({message['reason']})")
                elif op == "event" and message.get("run", run) >= run:
                    run = message.get("run", run)
                    type_, data = message["type"], message["data"]
                    if type_ == PROGRESS:
                        screen.progress(figures(data or {}))
                        continue
                    if type_ == RETRYING:
                        screen.note(retrying(data, datetime.now(UTC)))
                    show(screen, message)
                    if type_ in ENDS:
                        return _end(type_, data)
        finally:
            if other is not None:
                other.addErrback(lambda failure: failure.trap(CancelledError))
                other.cancel()
            await watch.stop()
    return JOB_FAILED


def retrying(data: Mapping[str, Any], now: datetime) -> str:
    """What a ``retrying`` event says: which attempt comes next, when if that is still ahead, and why."""
    wait_s = (datetime.fromisoformat(data["at"]) - now).total_seconds()
    again = f"trying again in {math.ceil(wait_s)} s, Ctrl-C stops waiting" if wait_s > 0 else "tried again"
    return f"{data['message']}; {again} (attempt {data['attempt'] + 1})"


def _status(screen: Screen, text: str) -> None:
    if text != "connected":
        screen.note(text)


def _end(type_: str, data: Any) -> int:
    if type_ == "done":
        return DONE
    why = data.get("message", "") if isinstance(data, dict) else ""
    say(f"{type_}: {why}" if why else type_, style="red")
    return JOB_FAILED
