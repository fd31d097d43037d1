"""``msgd jobs``: list, show, cancel, run again, results."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from msgd.cli.exits import DONE
from msgd.cli.output import briefly, job_state, next_try, out, pairs, plain, print_json, say, state, table, value, when
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server

ABOUT_CHARACTERS: Final = 500
"""Of params in a list: they may be a megabyte, and --json has them whole."""

NAMED: Final = 3
"""Of several objects in such a param."""

STATES: Final = ("queued", "running", "waiting", "done", "failed", "cancelled")
TIMES: Final = frozenset({"created", "not_before", "started", "ended"})


@click.group()
def jobs() -> None:
    """List, show, cancel and run jobs again, take their results."""


@jobs.command("list")
@click.option("--state", "state_", type=click.Choice(STATES))
@click.option("--type", "type_", metavar="TYPE", help="Only jobs of this type.")
@click.option(
    "--parent", metavar="JOB", help="The children of JOB, such as the parts of a newsletter.  [default: of none]"
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def list_(server: Server, state_: str | None, type_: str | None, parent: str | None, limit: int, as_json: bool) -> None:
    """Jobs, newest first: one's own, or all with the right to."""
    query: dict[str, str | int] = {"limit": limit, "parent": parent or "none"}
    query |= {"state": state_} if state_ else {}
    query |= {"type": type_} if type_ else {}

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).jobs(**query)
        if as_json:
            for job in found:
                print_json(job)
        elif found:
            rows = [
                (
                    job["id"],
                    plain(job["type"]),
                    job_state(job),
                    briefly(job["created"]),
                    _progress(job),
                    _about(job),
                )
                for job in found
            ]
            table(("ID", "TYPE", "STATE", "CREATED", "PROGRESS", "ABOUT"), rows)
        else:
            say("no jobs" + (" like that" if state_ or type_ or parent else " yet: try msgd crawl URL"))
        return DONE

    run(command)


def _progress(job: Mapping[str, Any]) -> str:
    progress = job["progress"] if isinstance(job["progress"], dict) else {}
    done, total = progress.get("done", ""), progress.get("total")
    return plain(f"{done} of {total}" if total else str(done))


def _about(job: Mapping[str, Any]) -> str:
    """Why it failed, or is tried again and when; or what was asked."""
    if job["error"]:
        again = f"{next_try(job)}, after: " if next_try(job) else ""
        return f"{again}[red]{plain(job['error']['message'])[:ABOUT_CHARACTERS]}[/red]"
    params = job["params"] if isinstance(job["params"], dict) else {}
    about = "  ".join(str(one) if name == "url" else f"{name}={_brief(one)}" for name, one in params.items() if one)
    return plain(about[:ABOUT_CHARACTERS])


def _brief(given: Any) -> str:
    """A param in a list: of several objects, such as criteria and recipients, the first text of each says which."""
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        return value(given)
    shown = [next((text for text in one.values() if isinstance(text, str)), value(one)) for one in given[:NAMED]]
    return ", ".join(shown) + (f" and {len(given) - NAMED} more" if len(given) > NAMED else "")


@jobs.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@pass_server
def show(server: Server, job: str, as_json: bool) -> None:
    """Everything known of JOB."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).job(job)
        if as_json:
            print_json(found)
        else:
            pairs([(name, _shown(name, found)) for name, one in found.items() if one])
        return DONE

    run(command)


def _shown(name: str, job: Mapping[str, Any]) -> str:
    given = job[name]
    if name == "state":
        return ", ".join(filter(None, (job_state(job), next_try(job))))
    if name == "error":
        return f"[red]{plain(given['message'])}[/red] ({plain(given['code'])})"
    return plain(when(given) if name in TIMES else value(given))


@jobs.command()
@click.argument("job")
@pass_server
def cancel(server: Server, job: str) -> None:
    """End JOB, be it queued, running or waiting; prints its state."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).cancel(job)
        ending = found["cancel_requested"] and not found["ended"]
        out.print("cancelling" if ending else state(found["state"]))
        return DONE

    run(command)


@jobs.command()
@click.argument("job")
@pass_server
def retry(server: Server, job: str) -> None:
    """Run JOB, which has ended, again; prints its state."""

    async def command(reactor: Any) -> int:
        out.print(state((await server.client(reactor).retry(job))["state"]))
        return DONE

    run(command)


@jobs.command()
@click.argument("job")
@click.option("--format", "format_", type=click.Choice(["ndjson", "json", "csv"]), default="ndjson", show_default=True)
@pass_server
def results(server: Server, job: str, format_: str) -> None:
    """The results of JOB as they stand now, to stdout."""

    async def command(reactor: Any) -> int:
        async for piece in server.client(reactor).export(job, format_):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return DONE

    run(command)
