"""``msgd dead``: messages that nothing could be done with."""

from __future__ import annotations

from typing import Any

import click

from msgd.cli.exits import DONE
from msgd.cli.output import briefly, out, pairs, plain, print_json, say, table, value, when
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server


@click.group()
def dead() -> None:
    """List, show, requeue and drop dead letters: messages that nothing could be done with."""


@dead.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def list_(server: Server, limit: int, as_json: bool) -> None:
    """Dead letters, newest first, and why each is one."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).dead(limit=limit)
        if as_json:
            for letter in found:
                print_json(letter)
        elif found:
            rows = [
                (letter["id"], briefly(letter["time"]), plain(letter["key"]), f"[red]{plain(letter['reason'])}[/red]")
                for letter in found
            ]
            table(("ID", "TIME", "KEY", "REASON"), rows)
        else:
            say("no dead letters")
        return DONE

    run(command)


@dead.command()
@click.argument("letter")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@pass_server
def show(server: Server, letter: str, as_json: bool) -> None:
    """Everything known of LETTER, by its number."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).dead_letter(letter)
        if as_json:
            print_json(found)
        else:
            pairs([(name, plain(when(one) if name == "time" else value(one))) for name, one in found.items() if one])
        return DONE

    run(command)


@dead.command()
@click.argument("letters", nargs=-1, required=True)
@pass_server
def requeue(server: Server, letters: tuple[str, ...]) -> None:
    """Publish LETTERS again; a job's begins anew.

    They go where they were going before.
    """

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        for letter in letters:
            found = await client.requeue_dead(letter)
            out.print(f"{plain(found['id'])} requeued" + (f", job {plain(found['job'])}" if found["job"] else ""))
        return DONE

    run(command)


@dead.command()
@click.argument("letters", nargs=-1, required=True)
@pass_server
def drop(server: Server, letters: tuple[str, ...]) -> None:
    """Forget LETTERS; the jobs that they called for stay as they are."""

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        for letter in letters:
            out.print(f"{plain((await client.drop_dead(letter))['id'])} dropped")
        return DONE

    run(command)
