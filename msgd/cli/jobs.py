"""``msgd jobs``: list, show, cancel, run again, results."""

from __future__ import annotations

import sys
from typing import Any

import click
from rich.markup import escape

from msgd.cli.output import out, print_json, printable, state, table, when
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server


@click.group()
def jobs() -> None:
    """List, show, cancel and run jobs again."""


@jobs.command("list")
@click.option("--state", "state_", type=click.Choice(["queued", "running", "waiting", "done", "failed", "cancelled"]))
@click.option("--type", "type_", help="Only jobs of this type.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def list_(server: Server, state_: str | None, type_: str | None, limit: int, as_json: bool) -> None:
    """Jobs, newest first: one's own, or all with the right to."""
    query: dict[str, str | int] = {"limit": limit}
    query |= {"state": state_} if state_ else {}
    query |= {"type": type_} if type_ else {}

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).jobs(**query)
        if as_json:
            for job in found:
                print_json(job)
            return 0
        table(
            ("ID", "TYPE", "STATE", "CREATED", "PROGRESS"),
            ((job["id"], escape(job["type"]), state(job["state"]), when(job.get("created")), _progress(job))
             for job in found),
            empty="no jobs" + (" like that" if state_ or type_ else " yet: try msgd crawl URL"),
        )  # fmt: skip
        return 0

    run(command)


def _progress(job: dict[str, Any]) -> str:
    if job.get("error"):
        return f"[red]{escape(printable(job['error'].get('message', '')))[:80]}[/red]"
    progress = job.get("progress") or {}
    if progress.get("total"):
        return f"{progress.get('done', 0)} of {progress['total']}"
    return str(progress.get("done", ""))


@jobs.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@pass_server
def show(server: Server, job: str, as_json: bool) -> None:
    """Everything known of a job."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).job(job)
        if as_json:
            print_json(found)
        else:
            for name, value in found.items():
                if value not in (None, "", []):
                    out.print(f"[bold]{name}[/bold]  {escape(printable(str(value)))}")
        return 0

    run(command)


@jobs.command()
@click.argument("job")
@pass_server
def cancel(server: Server, job: str) -> None:
    """End a job that is queued, running or waiting."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).cancel(job)
        out.print(state(found.get("state", "cancelled")))
        return 0

    run(command)


@jobs.command()
@click.argument("job")
@pass_server
def retry(server: Server, job: str) -> None:
    """Run a job that has ended again, from its beginning."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).retry(job)
        out.print(state(found.get("state", "queued")))
        return 0

    run(command)


@jobs.command()
@click.argument("job")
@click.option("--format", "format_", type=click.Choice(["ndjson", "json", "csv"]), default="ndjson", show_default=True)
@pass_server
def results(server: Server, job: str, format_: str) -> None:
    """The results of a job, as they stand now, to stdout."""

    async def command(reactor: Any) -> int:
        async for line in server.client(reactor).results(job, format_):
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()
        return 0

    run(command)
