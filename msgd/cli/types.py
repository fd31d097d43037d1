"""``msgd types``: what workers perform."""

from __future__ import annotations

from typing import Any

import click

from msgd.cli.exits import DONE
from msgd.cli.output import out, plain, print_json, say, table
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server


@click.group()
def types() -> None:
    """List the job types that workers perform; pause and resume one."""


@types.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def list_(server: Server, as_json: bool) -> None:
    """The job types that one may submit."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).types()
        if as_json:
            for type_ in found:
                print_json(type_)
        elif found:
            table(
                ("TYPE", "STATE", "SUMMARY"),
                [
                    (plain(one["name"]), "[yellow]paused[/yellow]" if one["paused"] else "open", plain(one["summary"]))
                    for one in found
                ],
            )
        else:
            say("no job types: no worker has announced one")
        return DONE

    run(command)


@types.command()
@click.argument("type_", metavar="TYPE")
@pass_server
def pause(server: Server, type_: str) -> None:
    """Have no worker begin anything of TYPE.

    What runs goes on to the end of its slice.
    """
    _switch(server, type_, paused=True)


@types.command()
@click.argument("type_", metavar="TYPE")
@pass_server
def resume(server: Server, type_: str) -> None:
    """Let the workers of TYPE go on."""
    _switch(server, type_, paused=False)


def _switch(server: Server, type_: str, *, paused: bool) -> None:
    async def command(reactor: Any) -> int:
        found = await server.client(reactor).pause(type_, paused)
        out.print(f"{plain(found['name'])} {'paused' if found['paused'] else 'open'}")
        return DONE

    run(command)
