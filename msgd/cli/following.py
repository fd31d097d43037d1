"""A job followed in the terminal: its results as they come, its progress as a bar, its end as the exit code."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from msgd.cli.output import err, printable, say
from msgd.cli.running import DONE, JOB_FAILED
from msgd.client import Client, Watch
from msgd.messages.events import ENDS

ShowEvent = Callable[[str, Mapping[str, Any]], None]
"""Gets the type and the message of each kept event of the job."""


class Bar:
    """The progress of one job on stderr; silent where no terminal is."""

    def __init__(self, label: str) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[more]}"),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task: TaskID = self._progress.add_task(printable(label), total=None, more="")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def show(self, fields: Mapping[str, Any]) -> None:
        """``done`` and ``total`` move the bar; whatever else the type tells stands beside it."""
        total = fields.get("total")
        done = fields.get("done", 0)
        more = "  ".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
            for name, value in fields.items()
            if name not in ("done", "total") and isinstance(value, (int, float, str)) and value
        )
        self._progress.update(
            self._task,
            total=total if isinstance(total, (int, float)) else None,
            completed=done if isinstance(done, (int, float)) else 0,
            more=printable(more)[:60],
        )

    def print(self, markup: str) -> None:
        """A line of the person's, above the bar."""
        self._progress.console.print(markup)


async def follow(client: Client, job: str, *, bar: Bar, show: ShowEvent) -> int:
    """Show a job to its end; returns the exit code. Raises what Watch raises."""
    topic = f"job.{job}"
    watch = Watch(client, [topic], since="0", jitter=random.random, on_status=_status(bar))
    run = 0
    bar.start()
    try:
        async for message in watch:
            op = message.get("op")
            if op == "state":
                run = message["job"].get("run") or run
                progress = message["job"].get("progress")
                if isinstance(progress, dict):
                    bar.show(progress)
            elif op == "gap":
                bar.print(f"[yellow]earlier events are not kept any more ({message.get('reason')})[/yellow]")
            elif op == "event":
                type_, data = message["type"], message.get("data")
                if type_ == "progress":
                    bar.show(data or {})
                    continue
                show(type_, message)
                if type_ in ENDS and (message.get("run") or run) >= run:
                    return _end(type_, data)
    finally:
        bar.stop()
        await watch.stop()
    return JOB_FAILED


def _status(bar: Bar) -> Callable[[str], None]:
    def tell(text: str) -> None:
        if text != "connected":
            bar.print(f"[yellow]{printable(text)}[/yellow]")

    return tell


def _end(type_: str, data: Any) -> int:
    if type_ == "done":
        return DONE
    error = data.get("error", data) if isinstance(data, dict) else {}
    why = error.get("message", "") if isinstance(error, dict) else ""
    say(f"{type_}: {why}" if why else type_, style="red")
    return JOB_FAILED
